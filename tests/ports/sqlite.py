# SPDX-License-Identifier: ISC
import os
import sqlite3
import port

image = os.path.join(port.build('sqlite'), 'sqlite3')
with port.folder() as d:
    path = os.path.join(d, 'x.db')
    options = ['-v', f'{d}:/d']
    said = port.run(image, '/d/x.db', options=options, text='''
pragma journal_mode = wal; pragma journal_mode = delete;
create table t(a integer primary key, b text);
insert into t select value, hex(randomblob(50)) from generate_series(1, 20000);
create index i on t(b);
create virtual table words using fts5(w);
insert into words select 'alpha ' || b from t where a <= 100;
begin; delete from t; rollback;
select count(*), count(distinct b) from t; select count(*) from words where words match 'alpha';
pragma integrity_check; select cast(sqrt(144) as int);
''')
    assert said.split('\n')[-5:] == ['20000|20000', '100', 'ok', '12', ''], said
    # the host reads what the guest wrote, and the other way round
    db = sqlite3.connect(path)
    assert db.execute('select count(*), max(a) from t').fetchone() == (20000, 20000)
    assert db.execute('pragma integrity_check').fetchone() == ('ok',)
    db.execute('create table host(x)')
    db.executemany('insert into host values(?)', [(n,) for n in range(1000)])
    db.commit()
    db.close()
    assert port.run(image, '/d/x.db', 'select sum(x) from host', options=options) == '499500\n'
    # in the guest's own memory; then a database that is none
    assert port.run(image, ':memory:', 'select 6 * 7', options=['--memory', '16M']) == '42\n'
    open(path, 'wb').write(b'no database at all, and long enough to be read as one' * 99)
    port.run(image, '/d/x.db', 'select * from t', options=options, status=26)
print('sqlite: WAL and rollback journal, FTS5, interchange with the host')
