package scripts

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// readCommands are the commands that scripts read with. Any other one counts as
// one that writes.
var readCommands = func() map[string]bool {
	set := map[string]bool{}
	for _, name := range strings.Fields(`PING ECHO TIME TYPE TTL PTTL EXPIRETIME PEXPIRETIME EXISTS TOUCH OBJECT
		GET MGET GETRANGE STRLEN GETBIT BITCOUNT BITPOS HGET HMGET HGETALL HKEYS HVALS HLEN HEXISTS HSTRLEN HSCAN HRANDFIELD
		SMEMBERS SISMEMBER SMISMEMBER SCARD SRANDMEMBER SSCAN SINTER SUNION SDIFF SINTERCARD LRANGE LLEN LINDEX LPOS
		ZRANGE ZREVRANGE ZRANGEBYSCORE ZREVRANGEBYSCORE ZRANGEBYLEX ZREVRANGEBYLEX ZSCORE ZMSCORE ZCARD ZCOUNT ZLEXCOUNT
		ZRANK ZREVRANK ZSCAN ZRANDMEMBER ZUNION ZINTER XRANGE XREVRANGE XLEN XPENDING XREAD XINFO`) {
		set[name] = true
	}
	return set
}()

func (c TracedCall) command() string {
	if len(c.Args) == 0 {
		return ""
	}
	return strings.ToUpper(c.Args[0])
}

// Publishes reports whether the call sends a message on a Pub/Sub channel.
func (c TracedCall) Publishes() bool { return c.command() == "PUBLISH" || c.command() == "SPUBLISH" }

// Writes reports whether the call is of a command that may change data. PUBLISH
// does not.
func (c TracedCall) Writes() bool {
	return c.command() != "" && !readCommands[c.command()] && !c.Publishes()
}

// Keys returns the keys that the call names; of PUBLISH there are none.
func (c TracedCall) Keys() []string {
	a := c.Args
	switch name := c.command(); name {
	case "", "PING", "ECHO", "TIME", "PUBLISH", "SPUBLISH":
		return nil
	case "MGET", "DEL", "UNLINK", "EXISTS", "TOUCH", "SINTER", "SUNION", "SDIFF", "SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE":
		return a[1:]
	case "MSET", "MSETNX":
		var keys []string
		for i := 1; i < len(a); i += 2 {
			keys = append(keys, a[i])
		}
		return keys
	case "RENAME", "RENAMENX", "COPY", "SMOVE", "LMOVE", "RPOPLPUSH":
		return a[1:min(3, len(a))]
	case "XINFO", "XGROUP", "OBJECT":
		return a[min(2, len(a)):min(3, len(a))]
	case "XREAD", "XREADGROUP":
		i := slices.IndexFunc(a, func(s string) bool { return strings.EqualFold(s, "STREAMS") })
		return a[i+1 : i+1+(len(a)-i-1)/2]
	case "ZUNIONSTORE", "ZINTERSTORE":
		return slices.Concat(a[1:min(2, len(a))], numbered(a, 2))
	case "ZUNION", "ZINTER", "SINTERCARD":
		return numbered(a, 1)
	}
	return a[1:min(2, len(a))]
}

// numbered are the keys behind their count.
func numbered(a []string, at int) []string {
	if at >= len(a) {
		return nil
	}
	n, err := strconv.Atoi(a[at])
	if err != nil || n < 0 {
		return nil
	}
	return a[at+1 : min(at+1+n, len(a))]
}

// KeyUse returns what the manifest says of a key, or of the Pub/Sub channel that
// a script publishes on; name is without the site's prefix. The pattern with the
// most plain text is taken: alarm:open is not alarm:<id>.
func (m Manifest) KeyUse(name string, publishes bool) (use KeyUse, ok bool) {
	most := -1
	for _, k := range m.Keys {
		plain := len(placeholder.ReplaceAllString(k.Pattern, ""))
		meant := k.Access != "p"
		if publishes {
			meant = strings.Contains(k.Access, "p")
		}
		if meant && plain > most && keyPattern(k.Pattern).MatchString(name) {
			use, ok, most = k, true, plain
		}
	}
	return use, ok
}

func keyPattern(pattern string) *regexp.Regexp {
	var b strings.Builder
	end := 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(pattern, -1) {
		b.WriteString(regexp.QuoteMeta(pattern[end:m[0]]))
		if name := pattern[m[2]:m[3]]; strings.Contains(name, "|") {
			alternatives := strings.Split(name, "|")
			for i := range alternatives {
				alternatives[i] = regexp.QuoteMeta(alternatives[i])
			}
			b.WriteString("(?:" + strings.Join(alternatives, "|") + ")")
		} else {
			b.WriteString("[^:]+")
		}
		end = m[1]
	}
	return regexp.MustCompile("^(?:" + b.String() + regexp.QuoteMeta(pattern[end:]) + ")$")
}

// Form returns the form of the manifest that arguments are of: the one of which
// they begin with the words that it begins with.
func (m Manifest) Form(args []string) (Form, bool) {
	best, most := -1, -1
	for i, f := range m.Forms {
		words := f.Words()
		if len(words) <= len(args) && len(words) > most && slices.Equal(words, args[:len(words)]) {
			best, most = i, len(words)
		}
	}
	if best < 0 {
		return Form{}, false
	}
	return m.Forms[best], true
}

// Words returns the plain words with which the form begins: of "c2m <channel>"
// c2m.
func (f Form) Words() (words []string) {
	for _, w := range strings.Fields(f.Usage) {
		if strings.ContainsAny(w, "<[…") {
			break
		}
		words = append(words, w)
	}
	return words
}

// Meaning says what a code that the script answers means.
func (m Manifest) Meaning(code string) (string, bool) {
	i := slices.IndexFunc(m.Codes, func(c Code) bool { return c.Code == code })
	if i < 0 {
		return "", false
	}
	return m.Codes[i].Meaning, true
}
