"""What does a report say, before any of it is drawn? Numbers and sentences, no figures, no markup.

In: runs and their predictions. Out: frozen values that figures draw, and the verdict in words.
Called by every room of the report but page and explorer.
"""
