"""Building SQL statements."""

import sqlite3

import pytest

from plugin.engine.sql import Sql, sql


def test_names_are_quoted_and_numbers_and_statements_go_in_as_they_are():
    near = sql("{fid} IN ({ids})", fid="fid", ids=[1, 2**40])
    text = "SELECT {names} FROM {table} WHERE {near} AND x < {top}"
    found = sql(text, names=["a", 'b"c'], table="t", near=near, top=0.1)
    assert found == 'SELECT "a", "b""c" FROM "t" WHERE "fid" IN (1, 1099511627776) AND x < 0.1'
    assert sql("{a}", a=Sql("{b}")) == "{b}"


@pytest.mark.parametrize("name", ['x"; DROP TABLE t; --', "{fid}", "select"])
def test_no_name_gets_out_of_its_quotes(name):
    with sqlite3.connect(":memory:") as database:
        database.execute(sql("CREATE TABLE {table} ({table} INT)", table=name))
        database.execute(sql("INSERT INTO {table} VALUES ({value})", table=name, value=7))
        assert database.execute(sql("SELECT {table} FROM {table}", table=name)).fetchall() == [(7,)]
