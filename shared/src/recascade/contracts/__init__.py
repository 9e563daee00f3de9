"""Where packages meet: the few protocols and records that every stage of a cascade agrees on.

``method`` is importable without torch (the command line lists methods with it); ``context`` and ``retriever`` need
torch.
"""
