"""Who may do what, and what is kept secret: doors, logins, limits, the vault and its keys, security events."""
