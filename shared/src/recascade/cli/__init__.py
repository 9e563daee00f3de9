"""The command line. Each module here holds one command and imports what that command needs only when it runs."""
