"""The command line: parse, call, print, exit code. Imports nothing heavy before it must."""
