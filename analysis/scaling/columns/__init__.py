"""What does a user's table say? Its separators, its columns and its cells, one idea a module.

In: the text of a table, a header, a cell. Out: lines of cells, what each column means, numbers; BadInput naming the line.
Called by scaling's `table`.
"""
