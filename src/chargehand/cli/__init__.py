"""The command line: ``chargehand``.

Modules here import only what is light; what a command needs it imports when it runs, so that help
and ``run`` stay fast.
"""
