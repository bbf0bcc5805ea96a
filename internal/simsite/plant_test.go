package simsite

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const tick = 100 * time.Millisecond

// steps runs the plant in ticks and shows every state to check.
func steps(p *Plant, d time.Duration, check func(before, now Snapshot)) {
	for range int(d / tick) {
		before := p.Snapshot()
		p.Step(tick)
		check(before, p.Snapshot())
	}
}

// quiet is a plant whose PCS runs without control deviation.
func quiet(t *testing.T) *Plant {
	t.Helper()
	p := NewPlant(1, 10*time.Hour)
	p.regulation.sigma = 0
	p.Step(pcsStartTime*time.Second + 2*tick)
	require.Equal(t, PCSRunning, p.s.PCS.State)
	return p
}

func TestPowerBalancesAtTheMeter(t *testing.T) {
	t.Parallel()
	p := NewPlant(7, 0)
	var imported, exported float64
	first := p.Snapshot()
	check := func(_, s Snapshot) {
		g := s.Grid
		require.InDelta(t, s.Load-s.PV.Power-s.PCS.Power, g.Power, 1e-9)
		require.InDelta(t, g.Power, g.PhasePower[0]+g.PhasePower[1]+g.PhasePower[2], 1e-9)
		require.InDelta(t, g.Reactive, g.PhaseReactive[0]+g.PhaseReactive[1]+g.PhaseReactive[2], 1e-9)
		for i := range 3 {
			require.InDelta(t, math.Hypot(g.PhasePower[i], g.PhaseReactive[i]), g.Voltage[i]*g.Current[i]/1000, 1e-9)
			require.InDelta(t, 230, g.Voltage[i], 12)
			require.LessOrEqual(t, math.Abs(g.PhaseFactor[i]), 1.0)
		}
		require.InDelta(t, 50, g.Frequency, 0.15)
		imported += math.Max(0, g.Power) / 36000
		exported += math.Max(0, -g.Power) / 36000
	}
	// Two days of ten minutes an hour, with another setpoint every time.
	for i := range 48 {
		p.s.PCS.Setpoint = float64((i*37)%201 - 100)
		p.s.PCS.ReactiveSetpoint = float64((i*13)%101 - 50)
		p.s.PV.Limit = float64((i * 29) % 101)
		steps(p, 10*time.Minute/10, check)
		p.s.TimeOfDay = (p.s.TimeOfDay + 59*time.Minute) % day
	}
	assert.Greater(t, imported, 1.0)
	assert.Greater(t, exported, 1.0)
	assert.InDelta(t, imported, p.s.Grid.Import-first.Grid.Import, 1e-6)
	assert.InDelta(t, exported, p.s.Grid.Export-first.Grid.Export, 1e-6)
}

func TestSameSeedSameRun(t *testing.T) {
	t.Parallel()
	a, b, c := NewPlant(3, 0), NewPlant(3, 0), NewPlant(4, 0)
	for range 100 {
		a.Step(tick)
		b.Step(tick)
		c.Step(tick)
	}
	assert.Equal(t, a.Snapshot(), b.Snapshot())
	assert.NotEqual(t, a.Snapshot(), c.Snapshot())
}

func TestStateOfChargeIntegratesPower(t *testing.T) {
	t.Parallel()
	for _, power := range []float64{80, -80} {
		p := quiet(t)
		p.s.PCS.Setpoint = power
		p.Step(10 * time.Second)
		start := p.Snapshot()
		require.InDelta(t, power, start.PCS.Power, 1e-9)

		var dc, loss float64 // kWh at the terminals and lost in the cells
		steps(p, 5*time.Minute, func(_, s Snapshot) {
			dc += s.BMS.Power * tick.Hours()
			loss += s.BMS.Current * s.BMS.Current * packResistance / 1000 * tick.Hours()
			require.InDelta(t, s.BMS.Power, s.BMS.Voltage*s.BMS.Current/1000, 1e-6)
		})
		end := p.Snapshot()
		assert.InDelta(t, (dc+loss)/BatteryCapacity*100, start.BMS.SoC-end.BMS.SoC, 1e-6)

		// 5 minutes at the AC side, then the converter's loss.
		ac := power * 5 / 60
		if power > 0 {
			assert.InDelta(t, ac/pcsEfficiency, dc, 1e-6)
			assert.InDelta(t, ac, end.PCS.Discharged-start.PCS.Discharged, 1e-6)
			assert.Less(t, end.BMS.SoC, start.BMS.SoC-3)
			assert.Equal(t, BatteryDischarging, end.BMS.State)
			assert.Less(t, end.BMS.CellAvg, cellVoltage(end.BMS.SoC), "sags under load")
		} else {
			assert.InDelta(t, ac*pcsEfficiency, dc, 1e-6)
			assert.InDelta(t, -ac, end.PCS.Charged-start.PCS.Charged, 1e-6)
			assert.Greater(t, end.BMS.SoC, start.BMS.SoC+3)
			assert.Equal(t, BatteryCharging, end.BMS.State)
			assert.Greater(t, end.BMS.CellAvg, cellVoltage(end.BMS.SoC))
		}
		assert.Greater(t, end.BMS.CellMax, end.BMS.CellAvg)
		assert.Less(t, end.BMS.CellMin, end.BMS.CellAvg)
	}
}

func TestCellVoltageRisesWithCharge(t *testing.T) {
	t.Parallel()
	for soc := 1.0; soc <= 100; soc++ {
		require.Greater(t, cellVoltage(soc), cellVoltage(soc-1))
	}
	assert.Greater(t, cellVoltage(0), 2.7)
	assert.Less(t, cellVoltage(100), 3.6)
}

func TestSetpointIsRamped(t *testing.T) {
	t.Parallel()
	p := quiet(t)
	for _, setpoint := range []float64{100, -100, 0} {
		from := p.s.PCS.Power
		p.s.PCS.Setpoint = setpoint
		n := 0
		for math.Abs(p.s.PCS.Power-setpoint) > 1e-9 {
			before := p.s.PCS.Power
			p.Step(tick)
			require.LessOrEqual(t, math.Abs(p.s.PCS.Power-before), 50*tick.Seconds()+1e-9)
			n++
			require.Less(t, n, 100)
		}
		assert.InDelta(t, math.Abs(setpoint-from)/5, n, 1.01, "5 kW in 100 ms")
	}
}

func TestRegulationNoiseIsSmall(t *testing.T) {
	t.Parallel()
	p := NewPlant(1, 0)
	p.s.PCS.Setpoint = 30
	p.Step(5 * time.Second)
	changed := 0
	steps(p, time.Minute, func(before, s Snapshot) {
		require.InDelta(t, 30, s.PCS.Power, 0.5)
		if before.PCS.Power != s.PCS.Power {
			changed++
		}
	})
	assert.Equal(t, 600, changed)
}

func TestChargeBoundsHold(t *testing.T) {
	t.Parallel()
	for _, power := range []float64{100, -100} {
		p := NewPlant(1, 0)
		p.s.BMS.SoC = 50
		p.s.PCS.Setpoint = power
		for range 4 * 3600 {
			p.Step(time.Second)
			require.LessOrEqual(t, math.Abs(p.s.PCS.Power), PCSRating)
			require.GreaterOrEqual(t, p.s.BMS.SoC, 10.0)
			require.LessOrEqual(t, p.s.BMS.SoC, 90.0)
		}
		assert.InDelta(t, 0, p.s.PCS.Power, 5, "nearly nothing left to take")
		assert.NotZero(t, p.s.PCS.Faults&PCSDerated)
		if power > 0 {
			assert.InDelta(t, 10, p.s.BMS.SoC, 0.5)
			assert.NotZero(t, p.s.BMS.Faults&BMSChargeLow)
		} else {
			assert.InDelta(t, 90, p.s.BMS.SoC, 0.5)
			assert.NotZero(t, p.s.BMS.Faults&BMSChargeHigh)
		}
		// The other direction is free.
		p.s.PCS.Setpoint = -power
		p.Step(10 * time.Second)
		assert.InDelta(t, -power, p.s.PCS.Power, 0.5)
	}
}

func TestPowerOnlyWhileRunning(t *testing.T) {
	t.Parallel()
	p := NewPlant(1, 0)
	p.s.PCS.Setpoint = 50
	p.Step(tick)
	assert.Equal(t, PCSStarting, p.s.PCS.State)
	assert.Zero(t, p.s.PCS.Power)
	p.Step(5 * time.Second)
	assert.InDelta(t, 50, p.s.PCS.Power, 0.5)
	p.s.PCS.Start = false
	p.Step(tick)
	assert.Equal(t, PCSOff, p.s.PCS.State)
	assert.Zero(t, p.s.PCS.Power)
	assert.Zero(t, p.s.BMS.Current)
	assert.Equal(t, BatteryStandby, p.s.BMS.State)
}

func TestPVFollowsSunAndLimit(t *testing.T) {
	t.Parallel()
	p := NewPlant(1, 0)
	p.Step(time.Minute)
	assert.Zero(t, p.s.PV.Power, "midnight")
	assert.Equal(t, PVStandby, p.s.PV.State)

	night, noon := 0.0, 0.0
	low, high := math.Inf(1), 0.0
	for range 24 * 3600 {
		p.Step(time.Second)
		require.GreaterOrEqual(t, p.s.PV.Power, 0.0)
		require.LessOrEqual(t, p.s.PV.Power, PVRating)
		switch hour := p.s.TimeOfDay.Hours(); {
		case hour < 6 || hour > 18:
			night = math.Max(night, p.s.PV.Power)
		case hour > 11 && hour < 13:
			noon = math.Max(noon, p.s.PV.Power)
			low, high = math.Min(low, p.s.PV.Power), math.Max(high, p.s.PV.Power)
		}
	}
	assert.Zero(t, night)
	assert.Greater(t, noon, 30.0)
	assert.Greater(t, high-low, 15.0, "clouds")

	p = NewPlant(1, 12*time.Hour)
	p.Step(time.Minute)
	require.Equal(t, PVRunning, p.s.PV.State)
	assert.InDelta(t, p.s.PV.Available, p.s.PV.Power, 1)
	p.s.PV.Limit = 10
	p.Step(10 * time.Second)
	assert.Equal(t, PVLimited, p.s.PV.State)
	assert.InDelta(t, 6, p.s.PV.Power, 1e-9)
	p.s.PV.On = false
	p.Step(tick)
	assert.Equal(t, PVOff, p.s.PV.State)
	assert.Zero(t, p.s.PV.Power)
}

func TestTemperatureFollowsLosses(t *testing.T) {
	t.Parallel()
	p := NewPlant(1, 10*time.Hour)
	p.Step(20 * time.Minute)
	idle := p.s.BMS.TemperatureAvg
	assert.InDelta(t, p.s.Ambient+2, idle, 1.5)
	p.s.BMS.SoC = 85
	p.s.PCS.Setpoint = 100
	p.Step(30 * time.Second)
	early := p.s.BMS.TemperatureAvg
	p.Step(20 * time.Minute)
	assert.Greater(t, p.s.BMS.TemperatureAvg, idle+8)
	assert.Less(t, early, idle+5, "heat takes time")
	assert.Less(t, p.s.BMS.TemperatureMax, derateFrom, "no alarm by load alone")
	p.s.PCS.Setpoint = 0
	p.Step(time.Hour)
	assert.InDelta(t, p.s.Ambient+2, p.s.BMS.TemperatureAvg, 1.5)
}

func TestInjectedOverTemperature(t *testing.T) {
	t.Parallel()
	p := quiet(t)
	p.s.PCS.Setpoint = 40
	p.Step(5 * time.Second)
	require.Zero(t, p.s.BMS.Faults&(BMSWarmWarning|BMSOverTemperature|BMSTrip))

	p.s.BMS.OverTemperature = true
	var warned, alarmed, tripped time.Duration
	start := p.s.Elapsed
	steps(p, 10*time.Second, func(_, s Snapshot) {
		for bit, at := range map[int]*time.Duration{BMSWarmWarning: &warned, BMSOverTemperature: &alarmed, BMSTrip: &tripped} {
			if s.BMS.Faults&bit != 0 && *at == 0 {
				*at = s.Elapsed - start
			}
		}
		if s.BMS.Faults&BMSTrip != 0 && s.Elapsed-start > tripped {
			require.Zero(t, s.PCS.Power)
			require.Equal(t, PCSFault, s.PCS.State)
			require.Equal(t, BatteryFault, s.BMS.State)
		}
	})
	assert.Positive(t, warned)
	assert.Greater(t, alarmed, warned)
	assert.Greater(t, tripped, alarmed)
	assert.Less(t, alarmed, 3*time.Second)
	assert.Greater(t, p.s.BMS.TemperatureMax, 65.0)
	assert.Less(t, p.s.BMS.TemperatureMax, 80.0)
	assert.False(t, p.mayResetFault())

	p.s.BMS.OverTemperature = false
	p.Step(10 * time.Second)
	assert.Less(t, p.s.BMS.TemperatureMax, 35.0)
	assert.Zero(t, p.s.BMS.Faults&(BMSWarmWarning|BMSOverTemperature|BMSTrip))
	assert.Equal(t, PCSFault, p.s.PCS.State, "stays until it is reset")
	require.True(t, p.mayResetFault())
	p.resetFault()
	p.Step(5 * time.Second)
	assert.Equal(t, PCSRunning, p.s.PCS.State)
	assert.InDelta(t, 40, p.s.PCS.Power, 1e-9)
}

func TestEverythingMoves(t *testing.T) {
	t.Parallel()
	p := NewPlant(1, 10*time.Hour)
	p.Step(10 * time.Second)
	before := p.Snapshot()
	p.Step(2 * time.Second)
	after := p.Snapshot()
	moved := 0
	for _, e := range Map() {
		if e.encode(&before) != e.encode(&after) {
			moved++
		}
	}
	assert.Greater(t, moved, 45, "registers that changed within 2 s")
}

func TestLongStepsStayFinite(t *testing.T) {
	t.Parallel()
	p := NewPlant(1, 0)
	p.s.BMS.SoCMin, p.s.BMS.SoCMax = 0, 100
	for i := range 48 {
		p.s.PCS.Setpoint = float64(100 - 200*(i/4%2))
		p.Step(30 * time.Minute)
		s := p.Snapshot()
		for _, e := range Map() {
			v := e.Value(s)
			require.False(t, math.IsNaN(v) || math.IsInf(v, 0), "%s.%s is %v", e.Device, e.Name, v)
		}
	}
}
