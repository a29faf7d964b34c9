"""The control room: a module for each page. No business rule is here; figures come from `control.figures`."""
