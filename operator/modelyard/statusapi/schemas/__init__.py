"""What the API answers with. Each type is an allow-list: nothing of an object gets out that is not named here."""
