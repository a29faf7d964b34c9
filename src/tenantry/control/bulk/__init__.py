"""Many clients from one file: checked whole, made one by one, resumed where it stopped."""
