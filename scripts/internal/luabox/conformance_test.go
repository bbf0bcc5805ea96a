package luabox

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/scripts/storetest"
)

// conformance are texts whose reply or error is the same here and in Redis, to
// the letter. KEYS[1] is a key of the test's own.
var conformance = []string{
	// replies
	`return nil`, `return`, `return true`, `return false`, `return 1`, `return 1.9`, `return -1.9`, `return '2.5'`, `return ''`,
	`return {1, 2.9, 'x', true, false, 3}`, `return {1, nil, 3}`, `return {}`, `return {a = 1}`, `return {{1, {2}}, {}}`,
	`return function() end`, `return {function() end, 2}`, `return {1e300, -1e300, 2^53, 2^63, -2^63, 0/0}`,
	`return {ok = 'Y', 1}`, `return {ok = 1}`, `return {err = 1}`, `return {err = 'X a', ok = 'Y'}`, `return {err = 'X a'}`,
	`return {redis.error_reply('x'), 1}`, `return redis.status_reply('fine')`, `return redis.status_reply(1)`,
	`return redis.error_reply('boo')`, `return redis.error_reply('boo foo').err`, `return redis.error_reply('-boo foo').err`,
	`return redis.error_reply('').err`, `return redis.error_reply(1).err`,
	`return setmetatable({}, {__index = function(t, k) if k == 1 then return 5 end end})`,
	`return cjson.null`, `return {cjson.null, 1}`, `return 1, 2`, `return 'a\0b'`, "return 'a\\r\\nb'",
	`local t = {} t[1] = t return #t`,

	// replies of Redis in Lua
	`return {redis.call('SET', KEYS[1], 'v').ok, redis.call('GET', KEYS[1])}`,
	`return {tostring(redis.call('GET', KEYS[1] .. 'none')), tostring(redis.call('HGET', KEYS[1] .. 'none', 'f'))}`,
	`local r = redis.call('HMGET', KEYS[1] .. 'none', 'a', 'b') return {#r, tostring(r[1]), type(r[2])}`,
	`return type(redis.call('INCR', KEYS[1] .. 'n'))`, `return redis.call('SET', KEYS[1], 'v')`,
	`redis.call('SET', KEYS[1], 0.1) return redis.call('GET', KEYS[1])`,
	`redis.call('SET', KEYS[1], 1e15) return redis.call('GET', KEYS[1])`,
	`redis.call('SET', KEYS[1], 12345678901234567890) return redis.call('GET', KEYS[1])`,
	`redis.call('SET', KEYS[1], -3) return redis.call('GET', KEYS[1])`,
	`redis.call('set', KEYS[1], 1/3) return redis.call('get', KEYS[1])`,
	`return redis.call('TYPE', KEYS[1] .. 'none')`, `return redis.call('TYPE', KEYS[1] .. 'none').ok`,
	`redis.call('RPUSH', KEYS[1] .. 'l', 'a', 'b', 3) return redis.call('LRANGE', KEYS[1] .. 'l', 0, -1)`,
	`redis.call('XADD', KEYS[1] .. 'x', '5-1', 'a', 'b') return redis.call('XRANGE', KEYS[1] .. 'x', '-', '+')`,
	`redis.call('ZADD', KEYS[1] .. 'z', 1.5, 'a') return redis.call('ZRANGE', KEYS[1] .. 'z', 0, -1, 'WITHSCORES')`,
	`redis.call('HSET', KEYS[1] .. 'h', 'f', 'v') return redis.call('HGETALL', KEYS[1] .. 'h')`,

	// errors of Redis
	`redis.call('SET', KEYS[1], 'v') return redis.call('HGET', KEYS[1], 'f')`,
	"redis.call('SET', KEYS[1], 'v')\n\nreturn redis.call('HGET', KEYS[1], 'f')",
	`redis.call('SET', KEYS[1], 'v') return redis.pcall('HGET', KEYS[1], 'f')`,
	`redis.call('SET', KEYS[1], 'v') return redis.pcall('HGET', KEYS[1], 'f').err`,
	`redis.call('SET', KEYS[1], 'v') local ok, e = pcall(redis.call, 'HGET', KEYS[1], 'f') return {tostring(ok), type(e), e}`,
	`redis.call('SET', KEYS[1], 'v') local ok, e = pcall(redis.pcall, 'HGET', KEYS[1], 'f') return {tostring(ok), type(e), e.err}`,
	`redis.call('SET', KEYS[1], 'v') local ok, e = xpcall(function() redis.call('HGET', KEYS[1], 'f') end, function(e) return type(e) .. e.err end) return {tostring(ok), e}`,
	`redis.call('SET', KEYS[1], 'v') local ok, e = pcall(function() redis.call('HGET', KEYS[1], 'f') end) error(e)`,
	`return redis.call('GET')`, `return redis.call()`, `return redis.pcall()`, `return redis.call({})`, `return redis.call('SET', 'a', true)`,
	`return redis.call('SUBSCRIBE', 'x')`, `return redis.pcall('SUBSCRIBE', 'x')`, `return redis.call('INCR', KEYS[1], 'x')`,
	`redis.call('SET', KEYS[1], 'v') return redis.call('INCR', KEYS[1])`, `return redis.call('nope' .. 1, nil)`,

	// errors of Lua
	`error('boo')`, "\n\nerror('boo')", `error('boo', 0)`, `error('boo', 2)`, "local function f()\nerror('boo', 2) end\nf()", `error({err = 'MY boo'})`, `error()`, `error(nil)`, `error(12)`,
	`local ok, e = pcall(error) return {tostring(ok), tostring(e)}`, `local ok, e = pcall(error, {}) return {tostring(ok), type(e)}`,
	`local ok, e = pcall(error, 'x') return {tostring(ok), e}`, `local ok, e = pcall(function() error({err = 'x', code = 1}) end) return {tostring(ok), type(e), e}`,
	`local ok, e = pcall(function() error({code = 1}) end) return {tostring(ok), type(e), e.code}`,
	`return {pcall(function(...) return select('#', ...), ... end, 1, nil, 3)}`,
	`local ok, e = xpcall(function() error('a') end, function(m) return 'h:' .. m end) return {tostring(ok), e}`,
	`return {xpcall(function() return 1, 2 end, function() end)}`, `return {select('#', xpcall(function(...) return ... end, print_ and 1 or tostring, 1))}`,
	`assert(false)`, `assert(nil, 'mine')`, `return {assert(1, 2, 3)}`, `local ok, e = pcall(assert, false, 'mine') return e`,
	`return undefinedx`, `newglobal = 1`, `local ok, e = pcall(function() return undefinedx end) return {tostring(ok), type(e), e}`,
	`KEYS = {}`, `KEYS[1] = 'x' return KEYS[1]`, `string.x = 1`, `string.rep = 1`, `redis.x = 1`, `cjson.encode = 1`, `rawset(_G, 'x', 1)`, `setmetatable(_G, {})`,
	`return tostring(redis.nope)`, `return tostring(string.nope)`, `return print`, `return dofile`, `return loadfile`, `return require`, `return io`, `return os`, `return debug`, `return package`, `function f() end`,
	`return type(_G.KEYS)`, `return _VERSION`, `return {type(redis.call), type(cjson.null), type(nil), type({}), type(''), type(0), type(true)}`,
	`local function f() return pcall(f) end return {f()}`,

	// numbers and text
	`return {tostring(1/3), tostring(1e15), tostring(1e14), tostring(123456789012345), tostring(12345678901234), tostring(-0), tostring(0.1), tostring(1e100), tostring(2^53), tostring(-1e-7)}`,
	`return {tostring(1/0), tostring(-1/0), 1 .. '', 1.5 .. 'x', -1 .. '', 10/2 .. '', tostring(100000000000000), tostring(99999999999999.9)}`,
	`return {tostring(nil), tostring(true), tostring(cjson.null ~= nil), tostring(setmetatable({}, {__tostring = function() return 'me' end}))}`,
	`local t = {} for _, s in ipairs({'1', ' 1 ', '1e3', '1E+2', '0x10', '0X1f', '-0x10', '1.', '.5', '.', '', ' ', '1 2', '1e', '1e+', 'inf', '-inf', 'nan', 'infinity', 'abc', '0x', '+5', '--5', '5a', '1_0', '0b1', '0o7', '010', '1e400', '\t7\n', '0x1p4', '0x.8', '1' .. string.rep('0', 30)}) do t[#t + 1] = s .. '=' .. tostring(tonumber(s)) end return t`,
	`local t = {} for _, a in ipairs({{'10', 2}, {'ff', 16}, {'0xff', 16}, {'zz', 36}, {'8', 8}, {' 11 ', 2}, {'-11', 2}, {'', 10}, {'1.5', 10}, {12, 16}, {'99', 10}}) do t[#t + 1] = tostring(tonumber(a[1], a[2])) end return t`,
	`return {tostring(tonumber(nil)), tostring(tonumber({})), tostring(tonumber(true)), tonumber(5)}`, `return tonumber()`, `return tonumber('1', 99)`,
	`local t = {} for _, f in ipairs({'%.6f', '%d', '%5.2f', '%-8.3f|', '%+d', '% d', '%05d', '%.3d', '%x', '%X', '%#x', '%o', '%e', '%.2E', '%g', '%G', '%.14g', '%.17g', '%.0f', '%i', '%u', '%10g', '%c', '%s', '%5s', '%-5s|', '%q'}) do for _, n in ipairs({0, 1, 65, 100}) do t[#t + 1] = string.format(f, n) end end return t`,
	`local t = {} for _, f in ipairs({'%.6f', '%d', '%5.2f', '%e', '%g', '%.3g', '%.0f', '%x', '%s', '%10.3s|', '%+.1f', '%010.2f'}) do for _, n in ipairs({-1, 0.5, -0.25, 123456.789, 1e15, 1e-5, 1e20, 12345678, 2.5, 3.5}) do t[#t + 1] = string.format(f, n) end end return t`,
	`return {string.format('%.6f', 1e300):sub(1, 20), string.format('%f %g %d', '1.5', '2', '3'), string.format('%5s%%|%-5s|%.2s', 'a', 'b', 'cdef'), string.format('%f %g %.1f %5.1f %-8f| %+f', 1/0, -1/0, 1/0, -1/0, 1/0, 1/0)}`,
	`return string.format('%q', 'a"b\\c\nd\re\0f')`, `return string.format('%d')`, `return string.format('%y', 1)`, `return string.format('%', 1)`, `return string.format('%123d', 1)`, `return string.format('%d', 'x')`, `return string.format('%s', {})`, `return string.format('%s', nil)`, `return string.format('%5')`,
	`return string.format('%c%c', 65, 300) `, `return {string.format('%s', 1.5), string.format('%s', 1e15), string.format('%d', 3.99), string.format('%d', -3.99)}`,
	`return {10 % 3, -10 % 3, 10 % -3, -10 % -3, 5.5 % 2}`, `return {tostring(7 / 2), 2 ^ 10, -2 ^ 2, tostring(5 % 0 ~= 5 % 0), tostring('10' + 5), tostring('3' * '4'), tostring(-'2')}`,
	`return {math.floor(-1.5), math.ceil(-1.5), math.abs(-3), math.max(1, 5, 3), math.min(4, 2), math.fmod(-7, 3), math.pow(2, 3), tostring(math.pi), tostring(math.huge), math.sqrt(16), math.mod(7, 3)}`,
	`local a, b = math.modf(3.7) return {a, tostring(b)}`, `local a, b = math.modf(-3.7) return {a, tostring(b)}`, `return {tostring(math.log10(1000)), tostring(math.exp(0)), tostring(math.rad(180)), math.deg(math.pi), math.ldexp(1, 4)}`,
	`math.randomseed(7) return {math.random(10), tostring(math.random()), math.random(5, 7)}`, `return math.random(0)`, `return math.random(5, 1)`, `return math.random(1, 2, 3)`,
	`return {tostring('a' < 'b'), tostring('B' < 'a'), tostring('' < 'a'), tostring(1 == '1'), tostring('10' == '10'), #'abc', #{1, 2, 3}}`,

	// string
	`return {('hello'):byte(1, -1)}`, `return {('hello'):byte()}`, `return {('hello'):byte(10)}`, `return {('hello'):byte(-1)}`, `return {('hello'):byte(2, 3)}`, `return string.char(72, 105)`, `return string.char(256)`, `return string.char(-1)`, `return string.char()`,
	`return {('hello'):sub(2, 3), ('hello'):sub(-3), ('hello'):sub(0), ('hello'):sub(10), ('hello'):sub(2, -2), ('hello'):sub(-100, 2), ('hello'):sub(3, 2)}`,
	`return {('ab'):rep(3), ('ab'):rep(0), ('ab'):rep(-1), ('AbÄ'):lower(), ('abä'):upper(), ('abc'):reverse(), ('abc'):len()}`,
	`return {('hello world'):find('o w')}`, `return {('hello'):find('l+')}`, `return {('hello'):find('xyz')}`, `return {('hello'):find('')}`, `return {('hello'):find('', 3)}`, `return {('hello'):find('', 10)}`, `return {('hello'):find('l', -2)}`, `return {('a.b'):find('.', 1, true)}`, `return {('a.b'):find('%.')}`, `return {('hello'):find('(l)(l)')}`, `return {('hello'):find('()ll()')}`, `return {('hello'):find('h', 0)}`, `return {('hello'):find('^l', 3)}`, `return {('hello'):find('o$')}`,
	`return {('key=val'):match('(%w+)=(%w+)')}`, `return {('key=val'):match('^%w+')}`, `return {('  trim  '):match('^%s*(.-)%s*$')}`, `return tostring(('abc'):match('x'))`, `return {('abc'):match('()b()')}`, `return {('2024-01-02'):match('(%d+)-(%d+)-(%d+)')}`, `return {('abc'):match('.-', 2)}`, `return {('a:b:c'):match('^([^:]+):(.+)$')}`, `return {('[x]'):match('%[(.-)%]')}`, `return {('THE (quick) fox'):find('%((%a+)%)')}`, `return {('f(a(b)c)d'):match('%b()')}`, `return {('hello hello'):match('(h%a+) %1')}`, `return {('THE (quick) fox'):match('%f[%a]%a+', 5)}`, `return {('x]y'):match('[]]')}`, `return {('x^y'):match('[%^]')}`, `return {('a-z'):match('[a%-]+')}`, `return {('09azAZ_'):match('[0-9a-zA-Z]+')}`, `return {('abc'):match('[^b]+')}`, `return {('a\0b'):match('%z')}`, `return {('äö'):match('[\128-\255]+')}`, `return {('ab12'):match('%a+%d?%d?%d?')}`, `return {('aaab'):match('a-b')}`, `return {('abc'):match('((a)(b))')}`, `return {('-5.25'):match('^[+-]?%d+%.?%d*$')}`,
	`local t = {} for w in ('one two  three'):gmatch('%a+') do t[#t + 1] = w end return t`, `local t = {} for k, v in ('a=1, b=2'):gmatch('(%w+)=(%w+)') do t[#t + 1] = k .. v end return t`, `local t = {} for w in ('abc'):gmatch('') do t[#t + 1] = 'x' .. w end return t`, `local t = {} for w in ('a,,b'):gmatch('[^,]*') do t[#t + 1] = '<' .. w .. '>' end return t`, `local t = {} for p in ('abc'):gmatch('()') do t[#t + 1] = p end return t`, `local t = {} for w in ('^a^a'):gmatch('^a') do t[#t + 1] = w end return t`,
	`return {('hello'):gsub('l', 'L')}`, `return {('hello'):gsub('l', 'L', 1)}`, `return {('hello'):gsub('', '-')}`, `return {('hello world'):gsub('(%w+)', '<%1>')}`, `return {('hello'):gsub('.', {h = 'H', e = false, l = 1})}`, `return {('hello'):gsub('l', function(c) return c:upper() end)}`, `return {('hello'):gsub('l', function() end)}`, `return {('abc'):gsub('%w', '%0%0')}`, `return {('abc'):gsub('%w', '%%')}`, `return {('a.b'):gsub('%.', '%%2E')}`, `return {('hello'):gsub('^h', 'J')}`, `return {('abc'):gsub('b*', '-')}`, `return {('abc'):gsub('(a)(b)', '%2%1')}`, `return {('x'):gsub('x', '%1')}`, `return {('abc'):gsub('b', 5)}`, `return {('  a  b '):gsub('%s+', ' ')}`, `return {('abc'):gsub('()', '%1')}`,
	`return ('x'):gsub('x', '%2')`, `return string.gsub('x', 'x', true)`, `return ('x'):gsub('x', function() return {} end)`, `return ('x'):find('[a')`, `return ('x'):find('%')`, `return ('x'):find('(x')`, `return ('x'):find('x)')`, `return ('x'):match('%1')`, `return ('x'):match('%f')`, `return ('x'):match('x%b')`, `return string.rep('x')`, `return string.rep('x', {})`, `return string.sub()`, `return string.len(nil)`, `return string.find('x')`, `return string.find('x', nil)`,
	`return ('%d'):gsub('%%d', '%%s')`, `return {string.gsub('hello', 'l', 'x', 0)}`, `return {string.gsub('abc', 'x*$', 'Y')}`, `return {('x'):gsub('.', '%')}`,

	// table
	`return table.concat({1, 2, 'x', 1.5}, ',')`, `return table.concat({})`, `return table.concat({1, 2, 3}, '-', 2)`, `return table.concat({1, 2, 3}, '-', 2, 3)`, `return table.concat({1, 2, 3}, '-', 3, 2)`, `return table.concat({1, {}, 3})`, `return table.concat({1, 2}, ',', 1, 4)`, `return table.concat('x')`,
	`local t = {1, 2, 3} table.insert(t, 4) table.insert(t, 1, 0) table.insert(t, 3, 'm') return t`, `local t = {} table.insert(t, 3, 'x') return t[3]`, `table.insert({})`, `table.insert({}, 1, 2, 3)`, `table.insert(nil, 1)`,
	`local t = {1, 2, 3} return {table.remove(t), table.remove(t, 1), #t, t[1]}`, `return {tostring(table.remove({})), 1}`,
	`local t = {3, 1, 2} table.sort(t) return t`, `local t = {'b', 'a', 'C'} table.sort(t) return t`, `local t = {3, 1, 2} table.sort(t, function(a, b) return a > b end) return t`, `local t = {1, 'a'} return tostring(pcall(table.sort, t))`,
	`return {unpack({1, 2, 3})}`, `return {unpack({1, 2, 3}, 2)}`, `return {unpack({1, 2, 3}, 2, 3)}`, `return {select('#', unpack({}, 1, 5))}`, `return {unpack({1, 2}, 3, 2)}`, `return #{unpack({}, 1, 7997)}`, `return #{unpack({}, 1, 7998)}`, `local t = {} for i = 1, 7999 do t[i] = i end return #{unpack(t)}`, `return unpack(nil)`, `return {unpack({1, 2, 3}, -1, 1)}`,
	`return {select(2, 'a', 'b', 'c')}`, `return {select(-1, 'a', 'b', 'c')}`, `return {select('#')}`, `return {select('#', nil, nil)}`, `return {select(5, 1)}`, `return select(0, 1)`, `return select(-5, 1)`, `return select('x', 1)`,
	`local n = 0 for k, v in pairs({1, 2, a = 3}) do n = n + v end return n`, `local n = 0 for i, v in ipairs({1, 2, nil, 4}) do n = n + v end return n`, `return {tostring(next({})), tostring(rawequal('a', 'a')), rawget({5}, 1)}`,
	`local t = setmetatable({}, {__newindex = function(t, k, v) rawset(t, k, v * 2) end}) t.a = 2 return t.a`, `local t = setmetatable({}, {__call = function(_, x) return x + 1 end}) return t(1)`, `local t = setmetatable({}, {__metatable = 'no'}) return getmetatable(t)`, `setmetatable(setmetatable({}, {__metatable = 1}), {})`, `setmetatable({})`, `setmetatable({}, 1)`,
	`local m = {__concat = function(a, b) return (type(a) == 'table' and 'T' or a) .. (type(b) == 'table' and 'T' or b) end} local x = setmetatable({}, m) return {x .. 'a', 'a' .. x, x .. x, 'a' .. 'b' .. x .. 'c' .. 1}`,
	`local function two() return 'a', 'b' end return {two() .. 'x', 'x' .. two(), (two())}`, `local t = {} local function k() return 'a', 'b' end t[k()] = 1 return t.a`, `local function f(...) return ... .. 'x' end return f('a', 'b')`,
	`local s = '' for i = 1, 300 do s = s .. i end return #s`, `return 'a' .. 1 + 2 .. 'b' .. 3 * 4`,
	`local t = {} t[1e9] = 'far' t[-5] = 'below' t[1.5] = 'between' t['1'] = 'text' return {t[1e9], t[-5], t[1.5], t['1'], tostring(t[1])}`, `local k = 'x' local t = {[k .. 1] = 5, [1 + 1] = 6} return {t.x1, t[2]}`,
	`local i = 20000 local t = {} for j = 1, i do t[j] = j end t[i + 1] = 'end' return {#t, t[20001]}`,

	// cjson
	`return cjson.encode({1, 2, 3})`, `return cjson.encode({})`, `return cjson.encode({{}})`, `return cjson.encode({a = 1})`, `return cjson.encode('a"b\\c/d\n\t\r\b\f\1\127ä')`, `return cjson.encode(1.5)`, `return cjson.encode(1/3)`, `return cjson.encode(1e15)`, `return cjson.encode(123456789012345678)`, `return cjson.encode(true)`, `return cjson.encode(nil)`, `return cjson.encode(cjson.null)`, `return cjson.encode({1, nil, 3})`, `return cjson.encode({[1] = 1, [3] = 3})`, `return cjson.encode({[5] = 5})`, `return cjson.encode({[20] = 1})`, `return cjson.encode({[0] = 'zero'})`, `return cjson.encode({[1.5] = 'x'})`, `return cjson.encode({[-1] = 'x'})`,
	`return cjson.encode({1, 2, x = cjson.null} and {cjson.null, false})`, `return cjson.encode(function() end)`, `return cjson.encode({function() end})`, `return cjson.encode({[true] = 1})`, `return cjson.encode(1/0)`, `return cjson.encode(0/0)`, `return cjson.encode()`, `return cjson.encode(1, 2)`, `local t = {} t[1] = t return cjson.encode(t)`, `return cjson.encode({a = {b = {c = {1}}}})`, `return cjson.encode('\0')`, `return cjson.encode(-0)`, `return cjson.encode('\200')`,
	`local v = cjson.decode('{"a":1,"b":[1,2,{"c":null}],"d":true,"e":"x"}') return {v.a, v.b[2], tostring(v.b[3].c == cjson.null), tostring(v.d), v.e}`, `return cjson.decode('[1,"a",null,true,false,2.9]')`, `return {type(cjson.decode('null')), tostring(cjson.decode('null') == cjson.null)}`, `return cjson.decode('"\\u00e4\\n\\ud83d\\ude00\\/"')`, `return tostring(cjson.decode('1e3'))`, `return tostring(cjson.decode('-1.5e-3'))`, `return tostring(cjson.decode('0x10'))`, `return tostring(cjson.decode('inf'))`, `return tostring(cjson.decode('+5'))`, `return tostring(cjson.decode('007'))`, `return tostring(cjson.decode(' 5 '))`, `return tostring(cjson.decode(5))`,
	`return #cjson.decode('[]')`, `return tostring(next(cjson.decode('{}')))`, `return cjson.decode('{"a":1,"a":2}').a`, `local t = cjson.decode('{"1":"x"}') return {t['1'], tostring(t[1])}`, `return cjson.encode(cjson.decode('[1,[2,[3]],{"a":null}]'))`,
	`return cjson.decode('')`, `return cjson.decode('{')`, `return cjson.decode('{"a"}')`, `return cjson.decode('{"a":}')`, `return cjson.decode('{"a":1')`, `return cjson.decode('{"a":1,}')`, `return cjson.decode('[1,]')`, `return cjson.decode('[1 2]')`, `return cjson.decode('x')`, `return cjson.decode('1 2')`, `return cjson.decode('"abc')`, `return cjson.decode('"\\x"')`, `return cjson.decode('"\\u12"')`, `return cjson.decode('"\\ud800"')`, `return cjson.decode('{1:2}')`, `return cjson.decode('-')`, `return cjson.decode('nul')`, `return cjson.decode('tru')`, `return cjson.decode(']')`, `return cjson.decode(nil)`, `return cjson.decode()`, `return cjson.decode({})`, `return cjson.decode(string.rep('[', 1001) .. string.rep(']', 1001))`, `return #cjson.decode(string.rep('[', 1000) .. string.rep(']', 1000))`, "return cjson.decode('\"a\nb\"')", `return cjson.decode('nan') ~= cjson.decode('nan')`, `return cjson.decode('"a\0b"')`, `return cjson.decode('{}x')`,
	`return {pcall(cjson.decode, 'x')}`,

	// redis
	`return redis.sha1hex('')`, `return redis.sha1hex(12)`, `return redis.sha1hex()`, `return {redis.LOG_DEBUG, redis.LOG_VERBOSE, redis.LOG_NOTICE, redis.LOG_WARNING}`, `redis.log(1)`, `redis.log('x', 'y')`, `redis.log(9, 'y')`, `redis.log(redis.LOG_DEBUG, 'quiet')`,

	// closures, loops, scope
	`local f = {} for i = 1, 3 do f[i] = function() return i end end return {f[1](), f[2](), f[3]()}`, `local n = 0 while true do n = n + 1 if n > 5 then break end end return n`, `local n = 0 repeat local m = n n = n + 1 until m >= 3 return n`, `local r = {} for i = 10, 1, -3 do r[#r + 1] = i end return r`, `local a, b, c = (function() return 1, 2 end)() return {a, b, tostring(c)}`, `local t = {f = function(self, x) return self.v + x end, v = 5} return t:f(2)`, `local x = 1 do local x = 2 end return x`, `return {#arg_ == 0}`, `local a <const> = 1`, `return (...) == nil and 1`, `return 1 and 2 or 3`, `return not nil and {tostring(nil and 1), tostring(false or nil)}`, `local t = {1, 2, 3, [2] = 'x', n = 1} return {t[2], #t}`, `return {[[long
text]], "esc\065\n", #'\x'}`, `return 0x10 + 1e2 + .5 + 3.`, `return -- comment
	--[[ long
	comment ]] 5`,
	`local function f(n) if n == 0 then return 1, 2, 3 end return f(n - 1) end return {f(500)}`, `local function f() return (function() return 1, 2 end)() end return {f()}`, `return ('x'):rep(3)`,
	`local x = 10 local y = x x = 20 return {x, y}`, `local t = {} t.a, t.b = 1, 2 t.a, t.b = t.b, t.a return {t.a, t.b}`,
}

var scriptSuffix = regexp.MustCompile(` script: [0-9a-f]{40}, on @user_script:(\d+)\.$`)

// asRedis makes the text of an error of Redis what [Error] says.
func asRedis(err error) string {
	text := strings.TrimPrefix(err.Error(), "ERR user_script:")
	hasLine := text != err.Error()
	m := scriptSuffix.FindStringSubmatchIndex(text)
	if m == nil {
		return err.Error()
	}
	if hasLine {
		return "user_script:" + text[:m[0]]
	}
	return "user_script:" + text[m[2]:m[3]] + ": " + strings.TrimPrefix(text[:m[0]], "ERR ")
}

// withoutCode takes away the ERR that Redis puts before most errors.
func withoutCode(err error) string { return strings.Replace(err.Error(), ": ERR ", ": ", 1) }

func plain(reply any) any {
	switch r := reply.(type) {
	case Status:
		return string(r)
	case ReplyError:
		return errors.New(string(r)).Error()
	case error:
		return r.Error()
	case []any:
		list := make([]any, len(r))
		for i, v := range r {
			list[i] = plain(v)
		}
		return list
	}
	return reply
}

func TestSameAsRedis(t *testing.T) {
	t.Parallel()
	client := storetest.Client(t, storetest.Redis(t))
	ctx := context.Background()
	for i, text := range conformance {
		key := fmt.Sprintf("{%s}:k%d:", storetest.Site(t), i)
		want, wantErr := client.Eval(ctx, text, []string{key}, "arg1").Result()
		if errors.Is(wantErr, redis.Nil) {
			want, wantErr = nil, nil
		}
		got, _, gotErr := Run(ctx, Script{Text: text}, []string{key}, []string{"arg1"}, nil)
		if wantErr == nil {
			if gotErr != nil {
				t.Errorf("%s\n\tredis %q\n\there  error %v", text, want, gotErr)
			} else if !equal(plain(want), plain(got)) {
				t.Errorf("%s\n\tredis %q\n\there  %q", text, want, got)
			}
			continue
		}
		if gotErr == nil {
			t.Errorf("%s\n\tredis error %v\n\there  %q", text, wantErr, got)
			continue
		}
		if strings.Contains(wantErr.Error(), "Error compiling script") {
			if !errors.Is(gotErr, ErrSyntax) {
				t.Errorf("%s\n\tredis error %v\n\there  error %v", text, wantErr, gotErr)
			}
			continue
		}
		if asRedis(wantErr) != withoutCode(gotErr) {
			t.Errorf("%s\n\tredis error %v\n\there  error %v", text, wantErr, gotErr)
		}
	}
}

func equal(a, b any) bool { return fmt.Sprintf("%#v", a) == fmt.Sprintf("%#v", b) }

// different are texts that behave otherwise here, with the reason. The list is
// what doc.go names.
var different = []struct{ why, text string }{
	{"the Lua machine has other words for errors of its own", `return nil + 1`},
	{"the Lua machine has other words for errors of its own", `local t = nil return t.x`},
	{"a goto is refused by both, but a variable of that name is possible in Redis", `local goto = 1 return goto`},
	{"libraries that the embedded store lacks are not here", `return bit.band(1, 3)`},
	{"code cannot be loaded at run time", `return loadstring('return 1')()`},
	{"there are no coroutines", `return coroutine.wrap(function() return 1 end)()`},
	{"globals and libraries cannot be listed", `local n = 0 for _ in pairs(string) do n = n + 1 end return n > 0 and 1 or 0`},
	{"a caught error detaches locals that closures share", `local x = 0 local function inc() x = x + 1 end pcall(error, 'a') inc() return x`},
	{"arithmetic reads text with a leading zero as octal", `return '010' + 0`},
	{"an array index far away is refused", `local i = 5000000 local t = {} t[i] = 1 return 1`},
	{"a bad argument of a method call is counted with the object", `return ('x'):rep()`},
	{"the length of a table with holes", `local t = {} t[3] = 1 return #t`},
	{"a tail call takes a level as any other", `local function f(n) if n == 0 then return 1 end return f(n - 1) end return f(5000)`},
	{"recursion is less deep", `local function f(n) if n == 0 then return 0 end return 1 + f(n - 1) end return f(5000)`},
}

func TestDifferentFromRedis(t *testing.T) {
	t.Parallel()
	client := storetest.Client(t, storetest.Redis(t))
	ctx := context.Background()
	for _, d := range different {
		want, wantErr := client.Eval(ctx, d.text, nil).Result()
		got, _, gotErr := Run(ctx, Script{Text: d.text}, nil, nil, nil)
		same := (wantErr == nil) == (gotErr == nil)
		if same && wantErr != nil {
			same = asRedis(wantErr) == withoutCode(gotErr)
		} else if same {
			same = equal(plain(want), plain(got))
		}
		require.False(t, same, "%s: %s: no difference any more", d.text, d.why)
	}
}
