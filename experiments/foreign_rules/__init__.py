"""What foreign_rules.py is made of: rules of other people's packages, faults to plant in them, and a table."""
