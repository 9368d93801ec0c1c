"""Virtual hosts for Strata's tests and demonstrations; start reading at cli.py."""
