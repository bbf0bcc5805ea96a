package simsite

import (
	"math"
	"math/rand/v2"
	"time"
)

const (
	day = 24 * time.Hour

	// maxStep bounds one integration step; longer ones are split.
	maxStep = time.Second

	pvRamp       = 10.0 // kW/s
	pvEfficiency = 0.98
	loadTanPhi   = 0.33 // reactive per active power of the load: power factor 0.95
)

// Plant is the physics of the site. Make it with [NewPlant]. It is not safe
// for use from several goroutines.
type Plant struct {
	s   Snapshot
	rng *rand.Rand

	// Random walks around a mean, all in the unit of what they disturb.
	cloud, haze           drift
	loadSlow, loadFast    drift
	share                 [2]drift
	voltageSlow           [3]drift
	voltageFast           [3]drift
	frequencySlow         drift
	frequencyFast         drift
	sensor                drift // temperature sensors
	regulation            drift // control deviation of the PCS
	cellSpread            drift
	moduleVoltage         [modules]drift
	moduleTemperature     [modules]drift
	pcsPower, pcsReactive float64 // what the PCS regulates to, after ramps
	startup               float64 // seconds since the PCS began to start
	core                  float64 // °C, battery without the injected heat
	injected              float64 // K, heat of the injected fault
}

// drift is a random value that returns to zero: sigma is its standard
// deviation, tau the seconds over which it forgets.
type drift struct{ sigma, tau, value float64 }

func (d *drift) step(rng *rand.Rand, dt float64) float64 {
	// The exact solution for any dt, so that long steps stay bounded.
	a := math.Exp(-dt / d.tau)
	d.value = d.value*a + d.sigma*math.Sqrt(1-a*a)*rng.NormFloat64()
	return d.value
}

// NewPlant makes a plant at a time of day (since midnight, taken modulo 24 h).
// The same seed gives the same run.
func NewPlant(seed uint64, timeOfDay time.Duration) *Plant {
	p := &Plant{
		rng:           rand.New(rand.NewPCG(seed, 0x766f6c74)),
		cloud:         drift{sigma: 0.8, tau: 90},
		haze:          drift{sigma: 0.008, tau: 2},
		loadSlow:      drift{sigma: 4, tau: 60},
		loadFast:      drift{sigma: 0.3, tau: 1},
		frequencySlow: drift{sigma: 0.015, tau: 15},
		frequencyFast: drift{sigma: 0.004, tau: 0.5},
		sensor:        drift{sigma: 0.12, tau: 1},
		regulation:    drift{sigma: 0.06, tau: 0.5},
		cellSpread:    drift{sigma: 0.0006, tau: 2},
		core:          25,
	}
	for i := range p.share {
		p.share[i] = drift{sigma: 0.01, tau: 20}
	}
	for i := range p.voltageSlow {
		p.voltageSlow[i] = drift{sigma: 0.8, tau: 30}
		p.voltageFast[i] = drift{sigma: 0.15, tau: 0.5}
	}
	for i := range modules {
		p.moduleVoltage[i] = drift{sigma: 0.03, tau: 2}
		p.moduleTemperature[i] = drift{sigma: 0.12, tau: 3}
	}
	p.s = Snapshot{
		TimeOfDay: ((timeOfDay % day) + day) % day,
		Grid:      Grid{Import: 12345.6, Export: 2345.6, DemandPeriod: 15},
		PV:        PV{EnergyTotal: 54321, Limit: 100, On: true, Temperature: 25},
		PCS:       PCS{Ramp: 50, Start: true, Temperature: 25, Discharged: 8000, Charged: 9000},
		BMS:       BMS{SoC: 55, SoH: 98.5, SoCMin: 10, SoCMax: 90, Discharged: 8300, Charged: 8700},
	}
	p.step(0) // fills everything that follows from the above
	p.s.Grid.Demand = p.s.Grid.Power
	return p
}

// Snapshot returns the state after the last step.
func (p *Plant) Snapshot() Snapshot { return p.s }

// Step lets dt of simulated time pass; dt ≤ 0 does nothing.
func (p *Plant) Step(dt time.Duration) {
	for dt > 0 {
		h := min(dt, maxStep)
		p.step(h)
		dt -= h
	}
}

func (p *Plant) step(h time.Duration) {
	dt := h.Seconds()
	p.s.Elapsed += h
	p.s.TimeOfDay += h
	if p.s.TimeOfDay >= day {
		p.s.TimeOfDay -= day
		p.s.PV.EnergyToday = 0
	}
	p.stepSurroundings(dt)
	p.stepPV(dt)
	p.stepPCS(dt)
	p.stepBattery(dt)
	p.stepMeter(dt)
}

// stepSurroundings moves what the devices cannot influence: weather, load, and
// voltage and frequency of the grid.
func (p *Plant) stepSurroundings(dt float64) {
	hour := p.s.TimeOfDay.Hours()
	p.s.Ambient = 20 + 5*math.Sin((hour-9)/12*math.Pi)

	sun := math.Max(0, math.Sin((hour-6)/12*math.Pi))
	cover := 0.5 + 0.5*math.Tanh(p.cloud.step(p.rng, dt)-0.6)
	haze := 1 + p.haze.step(p.rng, dt)
	p.s.Irradiance = 1000 * math.Pow(sun, 1.2) * (1 - 0.7*cover) * haze

	// A morning and an evening peak on a base.
	bell := func(at, width float64) float64 { return math.Exp(-(hour - at) * (hour - at) / (2 * width * width)) }
	load := 26 + 14*bell(8, 1.8) + 20*bell(19, 2)
	p.s.Load = math.Max(5, load+p.loadSlow.step(p.rng, dt)+p.loadFast.step(p.rng, dt))

	p.s.Grid.Frequency = 50 + p.frequencySlow.step(p.rng, dt) + p.frequencyFast.step(p.rng, dt)
	for i := range p.s.Grid.Voltage {
		// The line to the substation costs voltage on import, of the last step.
		p.s.Grid.Voltage[i] = 230 + p.voltageSlow[i].step(p.rng, dt) + p.voltageFast[i].step(p.rng, dt) -
			0.03*p.s.Grid.PhasePower[i]
	}
}

func (p *Plant) stepPV(dt float64) {
	pv, irradiance := &p.s.PV, p.s.Irradiance
	module := p.s.Ambient + 0.03*irradiance
	pv.Available = PVRating * irradiance / 1000 * (1 - 0.004*(module-25))
	limit := PVRating * pv.Limit / 100
	pv.Power = math.Min(approach(pv.Power, math.Min(limit, pv.Available), pvRamp*dt), pv.Available)
	switch {
	case !pv.On:
		pv.State, pv.Power = PVOff, 0
	case irradiance < 5:
		pv.State, pv.Power = PVStandby, 0
	case limit < pv.Available:
		pv.State = PVLimited
	default:
		pv.State = PVRunning
	}
	pv.DCVoltage = 700 * (1 - math.Exp(-irradiance/40)) * (1 - 0.003*(module-25))
	pv.DCCurrent = 0
	if pv.Power > 0 {
		pv.DCCurrent = pv.Power * 1000 / pvEfficiency / pv.DCVoltage
	}
	pv.ACVoltage = mean(p.s.Grid.Voltage[:])
	pv.ACCurrent = pv.Power * 1000 / 3 / pv.ACVoltage
	pv.Temperature += (p.s.Ambient + 30*pv.Power/PVRating - pv.Temperature) * lag(dt, 240)
	pv.EnergyTotal += pv.Power * dt / 3600
	pv.EnergyToday += pv.Power * dt / 3600
}

// stepMeter balances the site: what the devices leave over comes from or goes
// to the grid. PV and PCS feed all phases alike, the load is uneven.
func (p *Plant) stepMeter(dt float64) {
	g := &p.s.Grid
	a, b := p.share[0].step(p.rng, dt), p.share[1].step(p.rng, dt)
	shares := [3]float64{0.36 + a, 0.33 + b, 0.31 - a - b}
	reactive := loadTanPhi * p.s.Load

	g.Power = p.s.Load - p.s.PV.Power - p.s.PCS.Power
	g.Reactive = reactive - p.s.PCS.Reactive
	g.Apparent = math.Hypot(g.Power, g.Reactive)
	g.PowerFactor = powerFactor(g.Power, g.Apparent)
	for i, share := range shares {
		g.PhasePower[i] = p.s.Load*share - (p.s.PV.Power+p.s.PCS.Power)/3
		g.PhaseReactive[i] = reactive*share - p.s.PCS.Reactive/3
		apparent := math.Hypot(g.PhasePower[i], g.PhaseReactive[i])
		g.PhaseFactor[i] = powerFactor(g.PhasePower[i], apparent)
		g.Current[i] = apparent * 1000 / g.Voltage[i]
	}
	if energy := g.Power * dt / 3600; energy > 0 {
		g.Import += energy
	} else {
		g.Export -= energy
	}
	g.Demand += (g.Power - g.Demand) * lag(dt, g.DemandPeriod*60)
}

func powerFactor(active, apparent float64) float64 {
	if apparent == 0 {
		return 1
	}
	return active / apparent
}

// lag returns the part of a difference that a first-order lag with time
// constant tau makes up in dt; both in seconds.
func lag(dt, tau float64) float64 { return 1 - math.Exp(-dt/tau) }

// approach moves a value towards a target by at most step.
func approach(value, target, step float64) float64 {
	return value + clamp(target-value, -step, step)
}

func clamp(v, low, high float64) float64 { return math.Max(low, math.Min(high, v)) }

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}
