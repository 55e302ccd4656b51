"""Certificates as TLS carries them, read from DER. It knows no connection and no event."""
