"""The documents that are made from the code (`make docs`), and what keeps all documents true."""
