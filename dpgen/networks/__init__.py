"""Networks that compute each record by itself; `dpgen.networks.table` lists them all."""
