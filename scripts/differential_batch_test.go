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

// item is what a batch says of a rule's point.
func (g *generator) item() string {
	switch g.n(12) {
	case 0:
		return g.value() + "@" + strconv.FormatInt(g.now-int64(g.n(500)), 10)
	case 1, 2:
		return "!" + pick(g.dice, "stale", "offline", "bad", "bad", "invalid", "uncertain")
	case 3:
		return ""
	case 4:
		if g.chance(20) {
			return pick(g.dice, "!", "!5", "x", "5@", "@5", "5@x", "5@1@2", "x@5", "! stale")
		}
	}
	return g.value()
}

// limit is what a batch says of a rule's limit.
func (g *generator) limit(operator string) string {
	if g.chance(3) {
		return pick(g.dice, "", "x", ":", "x:y", "5:", ":5", "5:x", "5:a:", "::", "x:pcs1:p", "5:a:b:c")
	}
	switch operator {
	case "in_range", "out_of_range":
		return pick(g.dice, "10.000000:30.000000", "10.000000:25.000000", g.value()+":"+g.value())
	case "deviation":
		return pick(g.dice, "5.000000", g.value()) + ":" + pick(g.dice, "pcs1:q", "bms:p", "pcs1:p", "bms:none")
	case "rate":
		return pick(g.dice, "5.000000", "20.000000", "0.500000") + ":" + pick(g.dice, "1000", "200", "5000")
	case "bit_set", "bit_clear":
		return pick(g.dice, "0", "1", "2", "3")
	}
	return g.value()
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
			operator := g.alarmOperator()
			if g.chance(3) {
				operator = pick(g.dice, "", "=", "~")
			}
			return []string{name, g.item(), operator, g.limit(operator), pick(g.dice, "0.000000", "1.000000", "5.000000", "0.100000")}
		})
	case 22, 23, 24:
		return counted("R", "", 1, func() []string { return []string{g.rule()} })
	}
	if g.chance(20) {
		return []string{pick(g.dice, "Z", "", "s", "\xff"), "rest"}
	}
	return []string{"P", "@modsrv:" + model + ":update", "x:1"}
}
