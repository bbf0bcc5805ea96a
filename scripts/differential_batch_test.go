package scripts_test

import "strconv"

// batch is a batch in the documented format, of random sections.
func (g *generator) batch() step {
	channel := pick(g.dice, "1001", "1001", "1001", "1001", g.channel())
	s := step{"data_sync", "batch", g.time(), g.generation(), pick(g.dice, "$version", "$version", "$version", "$version", "$version", "$version", "$version", "0"),
		channel, g.epoch(channel), pick(g.dice, "$batch:"+channel, "$batch:"+channel, "$batch:"+channel, "$batch:"+channel, "$batch:"+channel, "$batch:"+channel, "1"),
		pick(g.dice, "3", "0", "7", "7", "7", "x", "-2")}
	for range 1 + g.n(8) {
		s = append(s, g.section(channel)...)
	}
	return s
}

func (g *generator) section(channel string) []string {
	model := g.model()
	counted := func(letter, key string, width int, element func() []string) []string {
		n := 1 + g.n(4)
		if g.chance(1) {
			n = 600 // more than one call takes
		}
		s := []string{letter}
		if key != "" {
			s = append(s, key)
		}
		s = append(s, strconv.Itoa(n))
		for range n {
			s = append(s, element()[:width]...)
		}
		return s
	}
	key := pick(g.dice, "@comsrv:"+channel+":"+pick(g.dice, "m", "m", "s", "c", "a", "text"), "@modsrv:"+model+":"+pick(g.dice, g.kind(), g.kind(), "text"))
	names := func() []string {
		return []string{pick(g.dice, g.name(), g.name(), g.point(), "n"+strconv.Itoa(g.n(300)))}
	}
	switch g.n(26) {
	case 0, 1, 2, 3, 4, 5:
		return counted("S", key, 2, func() []string {
			return []string{names()[0], pick(g.dice, g.value(), g.value(), g.value(), g.text(), "\xff\x00")}
		})
	case 6:
		return counted("S", "@modsrv:"+model+":quality", 2, func() []string { return []string{g.name(), pick(g.dice, "bad", "uncertain", "offline", "substituted")} })
	case 7:
		return counted("D", "@modsrv:"+model+":quality", 1, func() []string { return []string{g.name()} })
	case 8:
		return counted("D", key, 1, names)
	case 9, 10:
		return counted("T", "@modsrv:"+model+":ts", 1, names)
	case 11, 12:
		if g.chance(50) {
			return []string{"N", "@modsrv:" + model + ":ts", "0"}
		}
		return counted("N", "@modsrv:"+model+":ts", 1, func() []string { return []string{g.name()} })
	case 13:
		return counted("I", "", 1, func() []string { return []string{"@cache:model:" + g.model() + ":values"} })
	case 14, 15:
		return []string{"P", "@modsrv:" + model + ":update", g.name() + ":" + g.value() + pick(g.dice, "", ","+g.name()+":"+g.text())}
	case 16, 17:
		return []string{"X", pick(g.dice, "@hissrv:queue", "@cloud:queue"), pick(g.dice, "100000", "100000", "100000", "x", "-1"), channel,
			model + ":" + g.name() + "\t" + g.value() + "\n"}
	case 18, 19, 20, 21:
		return counted("A", "", 5, func() []string {
			name := g.model() + ":" + g.name() + ":" + g.alarmRule()
			if g.chance(2) {
				name = pick(g.dice, "rule:r1:action1", "pcs1:p", "", "a:b:c:d")
			}
			operator := g.operator()
			if g.chance(3) {
				operator = pick(g.dice, "", "=", "~")
			}
			return []string{name, g.value(), operator, g.value(), pick(g.dice, "0.000000", "1.000000", "5.000000", "0.100000")}
		})
	case 22, 23, 24:
		return counted("R", "", 1, func() []string { return []string{g.rule()} })
	}
	if g.chance(20) {
		return []string{pick(g.dice, "Z", "", "s", "\xff"), "rest"}
	}
	return []string{"P", "@modsrv:" + model + ":update", "x:1"}
}
