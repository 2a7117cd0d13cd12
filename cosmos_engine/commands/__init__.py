"""What the command line does, a module a command; what a command needs is imported when it runs."""
