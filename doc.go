// Package voltage is the engine of an energy controller: devices on Modbus, CAN
// or IEC 60870-5-104 in, Redis with Lua scripts as the data plane, and models,
// alarms, rules, commands and an HTTP API out of it.
//
//	eng, err := voltage.NewEngine(voltage.Config{Site: "plant-a"})
//	err = eng.RegisterChannel(channel.Config{ID: "1001", Driver: modbus.TCP("192.168.1.10:502"), Points: points})
//	err = eng.RegisterModel(model.Instance{ID: "pcs1", Measurements: map[string]string{"active_power": "1001:1"}})
//	err = eng.Run(ctx)
//
// A channel is a connection to a device and has points; a model is what people
// and programs see and binds names to points; templates are types of models, and
// calculations points that are computed of others. See package model for the
// vocabulary, channel for drivers, calc for expressions, and scripts for the data
// plane.
package voltage
