# The embedded ClickHouse engine as a store of samples: a durable insert per batch, and a bill of pair differences. Called by
# peers.ts when BENCH_CHDB names a folder that `pip install --target <folder> chdb` filled.
import json
import os
import sys
import time

seconds, vms, batches, folder = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
from chdb import session

db = session.Session(folder)
counters = ["cpu", "disk_read", "disk_write", "net_rx", "net_tx"]
columns = ", ".join(f"{name} Int64 codec(DoubleDelta, ZSTD)" for name in ["at", "memory", *counters])
db.query("create database b")
db.query(
    f"create table b.sample (vm UInt32, {columns}) engine = MergeTree order by (vm, at) "
    "settings fsync_after_insert = 1, fsync_part_directory = 1"
)


def values(vm):
    noise = "cityHash64(n)"
    return (
        f"{vm}, 1790000000000000000 + n * 100000000 + {noise} % 1000 * 1000, 2147483648 + 4096 * ({noise} % 7), "
        f"n * 61000000 + {noise} % 1000 * 2000, " + ", ".join(f"intDiv(n, 4) * {rate}" for rate in (4096, 8192, 1500, 900))
    )


began = time.monotonic()
done = 0
while time.monotonic() - began < seconds and done < batches:
    listed = values(done % vms)
    db.query(f"insert into b.sample select {listed} from (select {done // vms} * 600 + number as n from numbers(600))")
    done += 1
elapsed = time.monotonic() - began
# The bill is of as much as ours is, however that gets in.
listed = values("vm")
db.query(
    f"insert into b.sample select {listed} from (select {done} + intDiv(number, 600) as batch, batch % {vms} as vm, "
    f"intDiv(batch, {vms}) * 600 + number % 600 as n from numbers({max(0, batches - done) * 600}))"
)
db.query("optimize table b.sample final")
times = []
for _ in range(3):
    start = time.monotonic()
    before = ", ".join(f"lagInFrame({name}, 1, {name}) over w as {name}1" for name in ["at", "memory", *counters])
    sums = ", ".join(f"sum(greatest({name} - {name}1, 0))" for name in counters)
    db.query(
        f"select {sums}, sum(toInt128(least(memory, memory1)) * (at - at1)) from (select *, {before} from b.sample "
        "window w as (partition by vm order by at rows between 1 preceding and current row))"
    )
    times.append((time.monotonic() - start) * 1000)
size = str(db.query("select sum(bytes_on_disk) / sum(rows) from system.parts where table = 'sample' and active", "CSV"))
print(json.dumps({"perS": done * 600 / elapsed, "bytes": float(size), "readMs": sorted(times)[1], "timed": done * 600}))
sys.stdout.flush()
os._exit(0)
