"""The two relations of single records, by which most tests price."""

from __future__ import annotations

from dpgen.privacy.accounting.relation import Relation

ADD_REMOVE = Relation("add_remove", 1)
REPLACE_ONE = Relation("replace_one", 1)
