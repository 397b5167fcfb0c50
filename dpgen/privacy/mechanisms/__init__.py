"""Private computations on all records. One object owns sampling, clipping, noise and event.

What is accounted cannot differ from what runs, because both are read off the same fields, those of
`dpgen.privacy.mechanisms.declared`. Fields are public numbers; records, keys and functions are
arguments. Neither mechanism ever learns how many records there are: rates and denominators are
constants of the configuration.

Every release asks a question (`dpgen.privacy.mechanisms.question`): the mechanism's own fields,
those of the statistic or objective, the parameters, and how it is computed. Sampling coins, draws
and noise depend on the question; another question has others.
"""
