# SPDX-License-Identifier: ISC
import os
import port

image = os.path.join(port.build('lua'), 'lua')
with port.folder() as d:
    open(os.path.join(d, 'x.lua'), 'w').write('''
local f = assert(io.open("/d/out", "w"))
for word in ("the quick brown fox"):gmatch("%a+") do f:write(word:reverse(), "\\n") end
f:close()
local sum = 0
for v in coroutine.wrap(function() for i = 1, 100 do coroutine.yield(i) end end) do sum = sum + v end
assert(sum == 5050 and 7 // 2 == 3 and 1 << 40 == 1099511627776)
assert(not pcall(error, "x") and not io.open("/no/such") and os.getenv("K") == "v")
collectgarbage()
print(arg[1], os.time() > 1e9, math.floor(math.pi * 1000))
os.exit(tonumber(arg[2]))
''')
    said = port.run(image, '/d/x.lua', 'word', '3', options=['-v', f'{d}:/d', '-e', 'K=v'], status=3)
    assert said == 'word\ttrue\t3141\n', said
    assert open(os.path.join(d, 'out')).read() == 'eht\nkciuq\nnworb\nxof\n'
# the interpreter on standard input, and its own error
assert port.run(image, '-', text='print(1 + 1)') == '2\n'
port.run(image, '-e', 'error("no")', status=1)
# more than the guest has: an error of Lua's, and no crash
port.run(image, '-e', 'local ok, e = pcall(string.rep, "x", 1 << 30) print(ok, e) os.exit(ok and 1 or 0)', options=['--memory', '16M'])
print('lua: files, coroutines, errors, memory')
