-- Beside the searches: each program numbers the versions of its tables, and needs a database of its own for that.
CREATE DATABASE runs;
CREATE DATABASE accounts;
