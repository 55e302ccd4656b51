"""Rows of SYN, final ACK, hello: python perf_rows.py ROUNDS [rows]"""
import sys, statistics
from contextlib import closing
from bench import program_runs as pr, cpu
from bench.noop import SCHED_CLS, load_noop
from deckwire.kernel.loading import LoadRequest, load
from deckwire.tables.tables import Tables
rounds=int(sys.argv[1])
loaded=load(LoadRequest(settings=pr._SETTINGS, xdp="generic"))
noop=load_noop(SCHED_CLS); nx=load_noop(pr.XDP)
cpu.pin(0,cpu.CLIENTS)
side=pr._Side(loaded,Tables(loaded.maps)); pr._watch_deckies(side.tables)
want=sys.argv[2:] 
for p in pr._paths():
    if 'repeat' in want and ('bulk' in p.what or 'ACK of' in p.what or 'retrans' in p.what) :
        l=pr._repeated(side, nx if p.hook==pr._XDP else noop, p, 8, 100000)
        print(p.what, l)
    elif 'mid' not in p.what:
        for f in p.before: loaded.programs['tc_ingress'].test_run(f)
if 'varied' in want:
    for l in pr._varied(side,noop,rounds):
        print(l.what if hasattr(l,'what') else l)
        print('   ', l)
