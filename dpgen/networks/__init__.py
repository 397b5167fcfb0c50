"""Networks that keep records apart; `dpgen.networks.table` names them all."""
