"""Other libraries' models, data and results; each library is imported only when used."""
