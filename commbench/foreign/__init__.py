"""Which steps does an unchanged training take? And which run do they make?

In: a command, as its user types it. Out: a run folder like the recorder's, though no line of the program was changed.
`cli` starts the command and puts the ranks' cards together; `startup` is what each Python of it runs first; `arming` and
`watch` are in the processes that train. Called by the door.
"""
