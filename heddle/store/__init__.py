"""Where intent lives: a transactional object store with revisions and watch."""
