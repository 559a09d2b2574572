"""The roof: one door for every verb, the launcher and the study."""
