"""A program that never stops writing, and whose data show whether they are of one moment.

Owns: an SQLite database in rollback-journal mode (the mode that no copy of a live file survives)
with accounts between which money moves; what a copy of it must hold. Run as a program it writes
until it is killed: `python -m tests.labs.bank FOLDER`.
"""

import random
import shutil
import sqlite3
import sys
from pathlib import Path

ACCOUNTS = 200
BALANCE = 1000


def open_bank(folder: Path) -> sqlite3.Connection:
    """The database, made when it is not there yet."""
    bank = sqlite3.connect(folder / "bank.db", isolation_level=None)
    bank.execute("PRAGMA journal_mode=DELETE")
    bank.execute("PRAGMA synchronous=FULL")
    bank.execute("PRAGMA cache_size=4")  # pages reach the file in the middle of a transaction
    bank.execute("CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, money, filler)")
    bank.execute("CREATE TABLE IF NOT EXISTS moves (id INTEGER PRIMARY KEY, money)")
    if not bank.execute("SELECT count(*) FROM account").fetchone()[0]:
        bank.execute("BEGIN")
        rows = ((number, BALANCE, "x" * 300) for number in range(ACCOUNTS))
        bank.executemany("INSERT INTO account VALUES (?, ?, ?)", rows)
        bank.execute("COMMIT")
    return bank


def write_forever(folder: Path) -> None:
    """Move money about, many accounts in one transaction."""
    bank = open_bank(folder)
    while True:
        bank.execute("BEGIN")
        for _ in range(20):
            giver, taker = random.sample(range(ACCOUNTS), 2)
            money = random.randrange(100)
            bank.execute("UPDATE account SET money = money - ? WHERE id = ?", (money, giver))
            bank.execute("UPDATE account SET money = money + ? WHERE id = ?", (money, taker))
        bank.execute("INSERT INTO moves (money) VALUES (20)")
        bank.execute("COMMIT")


def find_fault(folder: Path, scratch: Path) -> str:
    """What is wrong with a copy of the bank, or nothing; the copy itself is left alone."""
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(folder, scratch)
    bank = sqlite3.connect(scratch / "bank.db")  # rolls back what was in the middle
    try:
        verdict = str(bank.execute("PRAGMA integrity_check").fetchone()[0])
        if verdict != "ok":
            return verdict
        total = bank.execute("SELECT sum(money) FROM account").fetchone()[0]
        return "" if total == ACCOUNTS * BALANCE else f"the accounts hold {total}"
    except sqlite3.DatabaseError as error:
        return str(error)
    finally:
        bank.close()


def count_moves(folder: Path) -> int:
    """How many transactions there were."""
    bank = sqlite3.connect(folder / "bank.db")
    try:
        return int(bank.execute("SELECT count(*) FROM moves").fetchone()[0])
    finally:
        bank.close()


if __name__ == "__main__":
    write_forever(Path(sys.argv[1]))
