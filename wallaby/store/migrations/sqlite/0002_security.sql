-- The number of tokens, audit records and secrets.
SELECT 1;
