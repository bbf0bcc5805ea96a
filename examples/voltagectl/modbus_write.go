package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// written is what became of one value.
type written struct {
	Address  string   `json:"address"`
	Old      *float64 `json:"old,omitempty"` // nil where it could not be read
	Value    float64  `json:"value"`
	ReadBack *float64 `json:"read_back,omitempty"`
	Result   string   `json:"result"`
	Error    string   `json:"error,omitempty"`
}

// parseWrites reads ADDRESS=VALUE.
func (c *call) parseWrites(args []string) (list []place, values []float64, err error) {
	if err := c.checkScale(); err != nil {
		return nil, nil, err
	}
	for _, arg := range args {
		address, text, ok := cutLast(arg, "=")
		if !ok {
			return nil, nil, usageError("%.60q: want ADDRESS=VALUE, such as holding:100:int16=-5", arg)
		}
		places, err := parsePlaces(address, c.device.base)
		if err != nil {
			return nil, nil, err
		}
		switch p := places[0]; {
		case len(places) > 1:
			return nil, nil, usageError("%.60q: a range is not written: name each address", arg)
		case p.space == "input" || p.space == "discrete":
			return nil, nil, usageError("%.60q: the space %s is read-only: want holding or coil", arg, p.space)
		case p.str:
			return nil, nil, usageError("%.60q: text is not written", arg)
		}
		value, err := parseValue(text)
		if err != nil {
			return nil, nil, usageError("%.60q: %v", arg, err)
		}
		places[0].scale = c.device.scale
		list, values = append(list, places[0]), append(values, value)
	}
	return list, values, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func parseValue(s string) (float64, error) {
	switch strings.ToLower(s) {
	case "true", "on":
		return 1, nil
	case "false", "off":
		return 0, nil
	}
	if digits, ok := strings.CutPrefix(strings.ToLower(s), "0x"); ok {
		n, err := strconv.ParseUint(digits, 16, 53)
		if err != nil {
			return 0, fmt.Errorf("value %.30q: want a number", s)
		}
		return float64(n), nil
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !model.Finite(v) {
		return 0, fmt.Errorf("value %.30q: want a number, on or off", s)
	}
	return v, nil
}

func runModbusWrite(ctx context.Context, c *call) error {
	list, values, err := c.parseWrites(c.names)
	if err != nil {
		return err
	}
	mute := c.device.unit == 0 && c.device.tcp == "" && c.device.tls == "" // all units of the line, of which none answers
	b, err := c.bus()
	if err != nil {
		return err
	}
	points := points(list, model.Control)
	for i := range points {
		points[i].ReadBack = points[i].Kind.Writable() && !c.device.noReadBack && !mute
	}
	if mute { // what is read cannot be
		points = writable(points)
	}
	u, err := c.open(ctx, b, c.device.unit, points)
	if err != nil {
		return err
	}
	defer func() { _ = u.Close(ctx) }()
	w, ok := u.Driver.(channel.Writer)
	if !ok {
		return errors.New("the driver cannot write")
	}
	var before []reading
	if !mute {
		if before, err = u.readOnce(ctx, list); err != nil {
			return err
		}
	}
	var done []written
	var failure error
	for i := range list {
		r := written{Address: list[i].text, Value: values[i]}
		if before != nil {
			r.Old = before[i].Value
		}
		point := points[pointAt(points, strconv.Itoa(i))]
		out, err := w.Write(ctx, channel.Write{Point: point, Value: values[i]})
		r.ReadBack, r.Result = out.ReadBack, out.Result.String()
		if err != nil && (!mute || out.Result != channel.Sent) {
			text := u.explain(err).Error()
			if _, rest, ok := strings.Cut(text, ": point "+point.ID+": "); ok {
				text = strings.ReplaceAll(rest, "invalid: ", "")
			}
			r.Error = text
			failure = fmt.Errorf("%s: %s: %s", r.Address, r.Result, text)
		}
		done = append(done, r)
		if failure != nil {
			break // what comes after may build on it
		}
	}
	if err := c.printWritten(done); err != nil {
		return err
	}
	if rest := len(list) - len(done); failure != nil && rest > 0 {
		failure = fmt.Errorf("%w; %d after it not tried", failure, rest)
	}
	return failure
}

func writable(points []model.Point) (list []model.Point) {
	for _, p := range points {
		if p.Kind.Writable() {
			list = append(list, p)
		}
	}
	return list
}

func pointAt(points []model.Point, id string) int {
	for i, p := range points {
		if p.ID == id {
			return i
		}
	}
	return 0
}

func (c *call) printWritten(list []written) error {
	if c.json {
		return c.printJSON(list)
	}
	rows := []string{"ADDRESS\tOLD\t\tNEW\tREAD BACK\tRESULT"}
	show := func(v *float64) string {
		if v == nil {
			return "-"
		}
		return decimal(*v, false)
	}
	for _, r := range list {
		rows = append(rows, r.Address+"\t"+show(r.Old)+"\t→\t"+decimal(r.Value, false)+"\t"+show(r.ReadBack)+"\t"+r.Result)
	}
	c.table(rows...)
	return nil
}
