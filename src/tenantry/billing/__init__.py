"""From usage to invoice: rules over values, what they are fed from the store, and what is made of them."""
