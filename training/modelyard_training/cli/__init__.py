"""`modelyard-train` for people: the same Training manifest on a laptop, help, and manifests of other tools' configs."""
