"""What every page is made with: its route, its form, its look, its files."""
