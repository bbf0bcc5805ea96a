package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/model"
)

// scanTimeout is how long a scan waits for a unit, of which most are not there.
const scanTimeout = 300 * time.Millisecond

func runModbusScan(ctx context.Context, c *call) error {
	if c.device.addresses != "" {
		for _, name := range []string{"units", "probe"} {
			if c.given(name) {
				return usageError("-%s and -addresses exclude each other", name)
			}
		}
		return c.scanAddresses(ctx)
	}
	if c.given("unit") {
		return usageError("-unit belongs to -addresses; want -units")
	}
	if !c.given("timeout") {
		c.device.timeout = scanTimeout
	}
	return c.scanUnits(ctx)
}

// found is a unit that answered.
type found struct {
	Unit   int    `json:"unit"`
	Answer string `json:"answer"`
}

func (c *call) scanUnits(ctx context.Context) error {
	ids, err := parseUnits(c.device.units, c.device.tcp != "" || c.device.tls != "")
	if err != nil {
		return err
	}
	list, err := c.allPlaces([]string{c.device.probe})
	if err != nil {
		return err
	}
	if len(list) > 1 {
		return usageError("-probe %s: want one address", c.device.probe)
	}
	b, err := c.bus()
	if err != nil {
		return err
	}
	fmt.Fprintf(c.errs, "asking %s for %s, %s each where nobody answers\n", counted(len(ids), "unit"), list[0].text, c.device.timeout)
	// One connection for all of them: it stays as long as one unit holds it.
	hold, err := c.open(ctx, b, ids[0], points(list, model.Measurement))
	if err != nil {
		return err
	}
	defer func() { _ = hold.Close(ctx) }()
	units := []found{}
	for _, id := range ids {
		answer, err := c.ask(ctx, b, id, list)
		if ctx.Err() != nil {
			return errors.Join(c.printFound(units), fmt.Errorf("ended before unit %d", id))
		}
		if err != nil {
			return err
		}
		if answer != "" {
			units = append(units, found{id, answer})
			fmt.Fprintf(c.errs, "unit %d answers\n", id)
		}
	}
	if err := c.printFound(units); err != nil {
		return err
	}
	if len(units) == 0 {
		return errors.New("no unit answers")
	}
	return nil
}

// ask returns a unit's answer; empty where there is none.
func (c *call) ask(ctx context.Context, b *modbus.Bus, id int, list []place) (string, error) {
	u, err := c.open(ctx, b, id, points(list, model.Measurement))
	if err != nil {
		return "", err
	}
	defer func() { _ = u.Close(ctx) }()
	_, err = u.Read(ctx)
	switch {
	case errors.Is(err, modbus.ErrTimeout), errors.Is(err, modbus.ErrAnswer):
		if text := u.explain(err).Error(); text != u.silence() { // something came, if no answer
			fmt.Fprintln(c.errs, text)
		}
		return "", nil
	case err != nil:
		var ex *modbus.Exception
		if errors.As(err, &ex) { // of a gateway, which found nobody
			return "", nil
		}
		if errors.Is(err, channel.ErrNotConnected) { // some devices hang up in place of an answer
			fmt.Fprintf(c.errs, "unit %d: %v\n", id, u.explain(err))
			return "", nil
		}
		return "", u.explain(err)
	}
	again, err := u.readOnce(ctx, list)
	if err != nil {
		return "answers", nil // it did
	}
	if again[0].Error != "" {
		return again[0].Error, nil
	}
	return again[0].Address + " = " + again[0].shown(), nil
}

func (c *call) printFound(units []found) error {
	if c.json {
		return c.printJSON(units)
	}
	rows := []string{"UNIT\tANSWER"}
	for _, u := range units {
		rows = append(rows, strconv.Itoa(u.Unit)+"\t"+u.Answer)
	}
	c.table(rows...)
	return nil
}

// parseUnits reads "1-10,17".
func parseUnits(text string, tcp bool) (ids []int, err error) {
	lo, hi := 1, 247
	if tcp {
		lo, hi = 0, 255
	}
	bad := usageError("-units %.60q: want units from %d to %d, such as 1-10,17", text, lo, hi)
	seen := map[int]bool{}
	for _, part := range list(text) {
		from, to, isRange := strings.Cut(part, "-")
		first, err := strconv.Atoi(from)
		last := first
		if isRange && err == nil {
			last, err = strconv.Atoi(to)
		}
		if err != nil || first < lo || last > hi || last < first {
			return nil, bad
		}
		for id := first; id <= last; id++ {
			if !seen[id] {
				seen[id] = true
				ids = append(ids, id)
			}
		}
	}
	if len(ids) == 0 {
		return nil, bad
	}
	return ids, nil
}

// area is a row of addresses that have the same answer.
type area struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Count  int    `json:"count"`
	Answer string `json:"answer"` // "exists", or why not
}

func (c *call) scanAddresses(ctx context.Context) error {
	list, err := c.allPlaces([]string{c.device.addresses})
	if err != nil {
		return err
	}
	if p := list[0]; p.width != 1 || p.str {
		return usageError("-addresses %s: want registers or bits, without a type of several registers", c.device.addresses)
	}
	u, err := c.deviceAt(ctx, list, model.Measurement)
	if err != nil {
		return err
	}
	defer func() { _ = u.Close(ctx) }()
	fmt.Fprintf(c.errs, "looking for %d addresses of unit %d; nothing is written\n", len(list), u.id)
	readings, err := u.readOnce(ctx, list)
	if err != nil {
		return err
	}
	var areas []area
	for _, r := range readings {
		answer := or(r.Error, "exists")
		if n := len(areas); n > 0 && areas[n-1].Answer == answer {
			areas[n-1].To = r.Address
			areas[n-1].Count++
			continue
		}
		areas = append(areas, area{r.Address, r.Address, 1, answer})
	}
	if c.json {
		return c.printJSON(areas)
	}
	rows := []string{"FROM\tTO\tCOUNT\tANSWER"}
	for _, a := range areas {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%d\t%s", a.From, a.To, a.Count, a.Answer))
	}
	c.table(rows...)
	return nil
}
