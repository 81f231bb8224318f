"""The heddle command, one module per subcommand."""
