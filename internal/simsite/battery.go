package simsite

import (
	"math"
	"slices"
)

const (
	pcsStartTime  = 2.0  // s from the start command to running
	pcsEfficiency = 0.97 // between AC and DC side, each way
	reactiveRamp  = 50.0 // kvar/s

	cells          = 240  // in series
	packResistance = 0.06 // Ω

	// The limits fall to zero over this much state of charge before its bounds.
	socTaper = 3.0 // percent

	thermalResistance = 0.015 // K/W, battery to ambient
	thermalTime       = 180.0 // s

	// The injected fault is much quicker than real heat, so that it can be
	// watched.
	faultTemperature = 72.0 // °C
	faultHeating     = 1.2  // s, time constant
	faultCooling     = 2.5  // s, time constant

	derateFrom = 50.0 // °C, limits start to fall
	overTemp   = 60.0 // °C, alarm; the limits are zero
	tripTemp   = 65.0 // °C
	rearmTemp  = 55.0 // °C, below it a trip can be reset
	hysteresis = 2.0  // K, of warning and alarm
)

func (p *Plant) stepPCS(dt float64) {
	c, b := &p.s.PCS, &p.s.BMS
	if b.Faults&BMSTrip != 0 {
		c.Faults |= PCSFaultBattery
	}
	switch {
	case c.Faults&PCSFaultBattery != 0:
		c.State, p.startup = PCSFault, 0
	case !c.Start:
		c.State, p.startup = PCSOff, 0
	case p.startup < pcsStartTime:
		c.State = PCSStarting
		p.startup += dt
	default:
		c.State = PCSRunning
	}

	noise := p.regulation.step(p.rng, dt)
	c.Faults &^= PCSDerated
	if c.State == PCSRunning {
		low, high := -b.ChargeLimit, b.DischargeLimit
		if c.Setpoint < low || c.Setpoint > high {
			c.Faults |= PCSDerated
		}
		// The ramp is for setpoints; the battery's limits hold at once.
		p.pcsPower = clamp(approach(p.pcsPower, c.Setpoint, c.Ramp*dt), low, high)
		c.Power = clamp(p.pcsPower+noise, low, high)
		p.pcsReactive = approach(p.pcsReactive, c.ReactiveSetpoint, reactiveRamp*dt)
		c.Reactive = p.pcsReactive + noise/3
	} else {
		p.pcsPower, p.pcsReactive, c.Power, c.Reactive = 0, 0, 0, 0
	}

	c.Apparent = math.Hypot(c.Power, c.Reactive)
	c.ACVoltage = mean(p.s.Grid.Voltage[:])
	c.ACCurrent = c.Apparent * 1000 / 3 / c.ACVoltage
	c.Temperature += (p.s.Ambient + 5 + 25*math.Abs(c.Power)/PCSRating - c.Temperature) * lag(dt, 60)
	if energy := c.Power * dt / 3600; energy > 0 {
		c.Discharged += energy
	} else {
		c.Charged -= energy
	}
}

// mayResetFault reports whether the cause of the PCS's stored fault is gone.
func (p *Plant) mayResetFault() bool { return p.s.BMS.Faults&BMSTrip == 0 }

// resetFault clears the PCS's stored fault.
func (p *Plant) resetFault() { p.s.PCS.Faults &^= PCSFaultBattery }

func (p *Plant) stepBattery(dt float64) {
	c, b := &p.s.PCS, &p.s.BMS

	// Power at the terminals: the converter's losses come on top of what it
	// delivers and off what it takes.
	b.Power = c.Power * pcsEfficiency
	if c.Power > 0 {
		b.Power = c.Power / pcsEfficiency
	}
	// Current from power = (open-circuit voltage − current·R)·current.
	open := cells * cellVoltage(b.SoC)
	b.Current = (open - math.Sqrt(open*open-4*packResistance*b.Power*1000)) / (2 * packResistance)
	b.Voltage = open - b.Current*packResistance
	c.DCVoltage, c.DCCurrent = b.Voltage, b.Current

	// The cells give the terminal power and the loss in their own resistance.
	b.SoC = clamp(b.SoC-open*b.Current/1000*dt/3600/BatteryCapacity*100, 0, 100)
	if energy := b.Power * dt / 3600; energy > 0 {
		b.Discharged += energy
	} else {
		b.Charged -= energy
	}

	spread := 0.004 + 0.00002*math.Abs(b.Current) + p.cellSpread.step(p.rng, dt)
	b.CellAvg = b.Voltage / cells
	b.CellMax, b.CellMin = b.CellAvg+spread, b.CellAvg-spread

	loss := b.Current * b.Current * packResistance
	p.core += (p.s.Ambient + 2 + loss*thermalResistance - p.core) * lag(dt, thermalTime)
	if b.OverTemperature {
		p.injected += (faultTemperature - p.core - p.injected) * lag(dt, faultHeating)
	} else {
		p.injected -= p.injected * lag(dt, faultCooling)
	}
	sensor := p.sensor.step(p.rng, dt)
	for i := range modules {
		// The modules in the middle of the rack are warmer than those outside.
		place := 1.2 - 0.6*math.Abs(float64(i)-3.5)
		b.ModuleTemperature[i] = p.core + p.injected + place + sensor + p.moduleTemperature[i].step(p.rng, dt)
		b.ModuleVoltage[i] = b.Voltage/modules + 0.02*place + p.moduleVoltage[i].step(p.rng, dt)
	}
	b.TemperatureMax = slices.Max(b.ModuleTemperature[:])
	b.TemperatureMin = slices.Min(b.ModuleTemperature[:])
	b.TemperatureAvg = mean(b.ModuleTemperature[:])

	p.protectBattery()
}

// protectBattery sets the BMS's flags, limits and state from what it measures.
func (p *Plant) protectBattery() {
	b := &p.s.BMS
	flag := func(bit int, set, clear bool) {
		if set {
			b.Faults |= bit
		} else if clear {
			b.Faults &^= bit
		}
	}
	t := b.TemperatureMax
	flag(BMSWarmWarning, t >= derateFrom, t < derateFrom-hysteresis)
	flag(BMSOverTemperature, t >= overTemp, t < overTemp-hysteresis)
	flag(BMSTrip, t >= tripTemp, t < rearmTemp)
	flag(BMSChargeLow, b.SoC <= b.SoCMin+0.5, true)
	flag(BMSChargeHigh, b.SoC >= b.SoCMax-0.5, true)

	warm := clamp((overTemp-t)/(overTemp-derateFrom), 0, 1)
	b.ChargeLimit = PCSRating * math.Min(warm, clamp((b.SoCMax-b.SoC)/socTaper, 0, 1))
	b.DischargeLimit = PCSRating * math.Min(warm, clamp((b.SoC-b.SoCMin)/socTaper, 0, 1))

	switch {
	case b.Faults&BMSTrip != 0:
		b.State = BatteryFault
	case b.Current > 0.5:
		b.State = BatteryDischarging
	case b.Current < -0.5:
		b.State = BatteryCharging
	default:
		b.State = BatteryStandby
	}
}

// cellVoltage is the open-circuit voltage of a lithium iron phosphate cell in V
// for a state of charge in percent.
func cellVoltage(soc float64) float64 {
	x := soc / 100
	return 3.20 + 0.12*x - 0.40*math.Exp(-20*x) + 0.15*math.Exp(25*(x-1))
}
