package modbus

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/voltageems/voltage/channel"
)

// planPoints is how many points of a request the printed plan names.
const planPoints = 8

// Plan implements channel.Planner: one line for each request, then what a round
// of each class comes to. Bytes are those of the frames, in both directions. On
// serial lines the time is that which the frames and the silence around them
// take; how long the unit thinks, and other units on the line, come on top.
func (d *driver) Plan() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", d.name, counted(len(d.items), "point"))
	if d.line.char > 0 {
		fmt.Fprintf(&b, ", at %d baud", d.opts.line.serial.baud)
	}
	b.WriteByte('\n')
	if d.member.mute {
		return b.String() + "nothing is read: unit 0 is all units of the line\n"
	}
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "class\tperiod\tfunction\taddresses\tcount\tin vain\tpoints")
	var sums []string
	share := 0.0
	for _, c := range d.classes {
		plan := makePlan(c.items, d.opts.limits)
		var sum planSum
		for k := range plan {
			s := &plan[k]
			sum.add(d, s)
			fmt.Fprintf(table, "%s\t%s\t%d %s\t%d-%d\t%d\t%d\t%s\n", c.Title(), periodText(c.Class), s.space.readFunction(), spaceNames[s.space],
				s.start, s.start+s.count-1, s.count, s.count-used(s), d.pointText(s))
		}
		if len(plan) > 0 {
			sums = append(sums, sum.lines(c.Class, d.line.char > 0)...)
		}
		if c.Period > 0 {
			share += sum.wire.Seconds() / c.Period.Seconds()
		}
	}
	_ = table.Flush() // to memory
	for _, s := range sums {
		b.WriteString(s + "\n")
	}
	if d.line.char > 0 && len(sums) > 0 {
		fmt.Fprintf(&b, "all classes: %.0f %% of the line's time\n", 100*share)
		if share > 1 {
			fmt.Fprintf(&b, "WARNING: all classes together need more than the line's time: longer periods, fewer points or a faster line are wanted\n")
		}
	}
	return b.String()
}

// planSum is what a round comes to.
type planSum struct {
	requests, registers, bits, bytes int
	wire                             time.Duration // on a serial line, and pauses
}

func (p *planSum) add(d *driver, s *span) {
	p.requests++
	data := 2 * s.count
	if s.space.bits() {
		p.bits += s.count
		data = (s.count + 7) / 8
	} else {
		p.registers += s.count
	}
	frames := headerSize + 5 + headerSize + 2 + data
	if d.line.rtu {
		frames = 8 + 5 + data
	}
	p.bytes += frames
	p.wire += d.line.delay
	if d.line.char > 0 {
		p.wire += time.Duration(frames)*d.line.char + 2*d.line.silence
	}
}

func (p *planSum) lines(c channel.Class, serial bool) []string {
	text := fmt.Sprintf("%s: %s a round", c.Title(), counted(p.requests, "request"))
	if p.registers > 0 {
		text += ", " + counted(p.registers, "register")
	}
	if p.bits > 0 {
		text += ", " + counted(p.bits, "bit")
	}
	text += fmt.Sprintf(", about %d bytes", p.bytes)
	if serial {
		text += fmt.Sprintf(", %s on the wire", p.wire.Round(time.Millisecond/10))
		if c.Period > 0 {
			text += fmt.Sprintf(", %.0f %% of the period", 100*p.wire.Seconds()/c.Period.Seconds())
		}
	}
	lines := []string{text}
	if c.Period > 0 && p.wire > c.Period {
		lines = append(lines, fmt.Sprintf("WARNING: %s cannot keep its period of %s: its round takes at least %s", c.Title(), c.Period, p.wire.Round(time.Millisecond/10)))
	}
	return lines
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func periodText(c channel.Class) string {
	if c.Period == 0 {
		return "-"
	}
	return c.Period.String()
}

// used returns how many of a span's registers, or bits, some item needs.
func used(s *span) int {
	n, end := 0, s.start
	for _, i := range s.items {
		n += max(i.end()-max(int(i.start), end), 0)
		end = max(end, i.end())
	}
	return n
}

// pointText names the points of a span.
func (d *driver) pointText(s *span) string {
	var names []string
	for k, i := range s.items {
		if k == planPoints {
			names = append(names, fmt.Sprintf("and %d more", len(s.items)-k))
			break
		}
		names = append(names, d.samples[i.sample].Point)
	}
	return strings.Join(names, " ")
}
