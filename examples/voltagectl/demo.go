package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

const (
	demoText  = "no -redis: this runs in this process, on a scratch store with the demo definitions\n"
	emptyText = "no -redis: this runs in this process, on an empty scratch store\n"
)

// withScratch runs f with a site in this process, with the demo's definitions
// unless they are not wanted.
func (c *call) withScratch(ctx context.Context, f func(*scripts.Plane) error) (err error) {
	store, err := scripts.OpenStore(ctx, scripts.StoreConfig{Embedded: true}, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close(context.WithoutCancel(ctx))) }()
	p, err := scripts.New(store.Client, scripts.Options{Site: c.site})
	if err != nil {
		return usageError("%v", err)
	}
	if err := p.Prepare(ctx); err != nil {
		return err
	}
	if !c.demo {
		fmt.Fprint(c.errs, emptyText)
		return f(p)
	}
	fmt.Fprint(c.errs, demoText, demoSays)
	if err := define(ctx, p); err != nil {
		return err
	}
	return f(p)
}

const demoSays = `  channel 1001: point 10001, a temperature in °C; point 20001, a power setpoint of -100 to 100 kW
  model pcs1: temperature = 1001:10001, power_setpoint = 1001:20001
  alarm rule warm: pcs1 temperature > 25, hysteresis 2
  rule derate: when pcs1 temperature > 60, power_setpoint = 0

`

// define stores the demo's definitions, which are those that demoSays describes.
func define(ctx context.Context, p *scripts.Plane) error {
	low, high := -100.0, 100.0
	points := []model.Point{
		{ID: "10001", Name: "temperature", Kind: model.Measurement, Unit: "°C"},
		{ID: "20001", Name: "power_setpoint", Kind: model.Control, Unit: "kW", Min: &low, Max: &high},
	}
	if err := p.PutPoints(ctx, "1001", points); err != nil {
		return err
	}
	if err := p.PutModel(ctx, model.Instance{ID: "pcs1", Measurements: map[string]string{"temperature": "1001:10001"},
		Controls: map[string]string{"power_setpoint": "1001:20001"}}); err != nil {
		return err
	}
	if err := p.PutAlarmRule(ctx, model.AlarmRule{ID: "warm", Model: "pcs1", Point: "temperature", Operator: model.Above, Threshold: 25,
		Hysteresis: 2, Severity: model.High, Message: "the converter gets warm"}); err != nil {
		return err
	}
	return p.PutRule(ctx, model.Rule{ID: "derate", Conditions: []model.Condition{{Model: "pcs1", Point: "temperature", Operator: model.Above, Threshold: 60}},
		Actions: []model.Action{{Type: model.ActionControl, Model: "pcs1", Control: "power_setpoint", Value: 0}}})
}
