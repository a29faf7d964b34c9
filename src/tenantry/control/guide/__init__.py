"""The client guide and the fair-use terms: facts about one tenant, put into words."""
