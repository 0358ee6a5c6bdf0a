"""The kinds of experiments: everything of one kind in one folder, which no other one imports."""
