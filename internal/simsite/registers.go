package simsite

import (
	"fmt"

	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

// Short names that keep one point on one or two lines.
const (
	coil     = server.Coil
	discrete = server.DiscreteInput
	holding  = server.HoldingRegister
	input    = server.InputRegister

	signal     = model.Signal
	control    = model.Control
	adjustment = model.Adjustment
)

func meterMap() []Entry {
	var m []Entry
	// Three values per quantity, one for each phase.
	phases := func(register uint16, e Entry, get func(g *Grid) [3]float64) {
		name, label := e.Name, e.Label
		for i := range 3 {
			e.Name, e.Label = fmt.Sprintf("%s_l%d", name, i+1), fmt.Sprintf("%s L%d", label, i+1)
			e.Table, e.Register = input, register+uint16(i*e.Type.words())
			e.get = func(s *Snapshot) float64 { return get(&s.Grid)[i] }
			m = append(m, e)
		}
	}
	phases(0, Entry{Name: "voltage", Label: "Voltage", Type: Float32, Unit: "V"}, func(g *Grid) [3]float64 { return g.Voltage })
	phases(6, Entry{Name: "current", Label: "Current", Type: Float32, Unit: "A"}, func(g *Grid) [3]float64 { return g.Current })
	phases(12, Entry{Name: "active_power", Label: "Active power", Type: Float32, Unit: "kW"}, func(g *Grid) [3]float64 { return g.PhasePower })
	phases(18, Entry{Name: "reactive_power", Label: "Reactive power", Type: Int32, Scale: 0.001, Unit: "kvar"}, func(g *Grid) [3]float64 { return g.PhaseReactive })
	phases(24, Entry{Name: "power_factor", Label: "Power factor", Type: Int16, Scale: 0.001}, func(g *Grid) [3]float64 { return g.PhaseFactor })
	return append(m, []Entry{
		{Name: "frequency", Label: "Frequency", Table: input, Register: 27, Type: Uint16, Scale: 0.01, Unit: "Hz",
			get: func(s *Snapshot) float64 { return s.Grid.Frequency }},
		{Name: "active_power", Label: "Active power, import positive", Table: input, Register: 28, Type: Float32, Unit: "kW",
			get: func(s *Snapshot) float64 { return s.Grid.Power }},
		{Name: "reactive_power", Label: "Reactive power", Table: input, Register: 30, Type: Float32, Unit: "kvar",
			get: func(s *Snapshot) float64 { return s.Grid.Reactive }},
		{Name: "apparent_power", Label: "Apparent power", Table: input, Register: 32, Type: Float32, Unit: "kVA",
			get: func(s *Snapshot) float64 { return s.Grid.Apparent }},
		{Name: "power_factor", Label: "Power factor", Table: input, Register: 34, Type: Int16, Scale: 0.001,
			get: func(s *Snapshot) float64 { return s.Grid.PowerFactor }},
		{Name: "demand_power", Label: "Average active power", Table: input, Register: 35, Type: Float32, Unit: "kW",
			get: func(s *Snapshot) float64 { return s.Grid.Demand }},
		{Name: "import_energy", Label: "Imported energy", Table: input, Register: 37, Type: Uint32, Scale: 0.001, Unit: "kWh",
			get: func(s *Snapshot) float64 { return s.Grid.Import }},
		{Name: "export_energy", Label: "Exported energy", Table: input, Register: 39, Type: Uint32, Scale: 0.001, Unit: "kWh",
			get: func(s *Snapshot) float64 { return s.Grid.Export }},
		{Name: "demand_period", Label: "Averaging period of the average power", Kind: adjustment, Table: holding, Register: 0,
			Type: Uint16, Unit: "min", Min: 1, Max: 60, ReadBack: true,
			get: func(s *Snapshot) float64 { return s.Grid.DemandPeriod },
			set: func(p *Plant, v float64) { p.s.Grid.DemandPeriod = v }},
		{Name: "importing", Label: "Power is imported", Kind: signal, Table: discrete, Register: 0,
			get: func(s *Snapshot) float64 { return number(s.Grid.Power > 0) }},
		{Name: "voltage_ok", Label: "All phase voltages within 10 % of 230 V", Kind: signal, Table: discrete, Register: 1,
			get: func(s *Snapshot) float64 {
				ok := true
				for _, v := range s.Grid.Voltage {
					ok = ok && v >= 207 && v <= 253
				}
				return number(ok)
			}},
	}...)
}

func pvMap() []Entry {
	return []Entry{
		{Name: "state", Label: "Operating state", Kind: signal, Table: input, Register: 0, Type: Uint16,
			Texts: map[int]string{PVOff: "off", PVStandby: "standby", PVRunning: "running", PVLimited: "limited"},
			get:   func(s *Snapshot) float64 { return float64(s.PV.State) }},
		{Name: "active_power", Label: "Active power", Table: input, Register: 1, Type: Int32, Scale: 0.001, Unit: "kW",
			get: func(s *Snapshot) float64 { return s.PV.Power }},
		{Name: "available_power", Label: "Power that the sun allows", Table: input, Register: 3, Type: Int32, Scale: 0.001, Unit: "kW",
			get: func(s *Snapshot) float64 { return s.PV.Available }},
		{Name: "dc_voltage", Label: "DC voltage", Table: input, Register: 5, Type: Uint16, Scale: 0.1, Unit: "V",
			get: func(s *Snapshot) float64 { return s.PV.DCVoltage }},
		{Name: "dc_current", Label: "DC current", Table: input, Register: 6, Type: Int16, Scale: 0.01, Unit: "A",
			get: func(s *Snapshot) float64 { return s.PV.DCCurrent }},
		{Name: "ac_voltage", Label: "AC voltage, mean of the phases", Table: input, Register: 7, Type: Uint16, Scale: 0.1, Unit: "V",
			get: func(s *Snapshot) float64 { return s.PV.ACVoltage }},
		{Name: "ac_current", Label: "AC current per phase", Table: input, Register: 8, Type: Uint16, Scale: 0.01, Unit: "A",
			get: func(s *Snapshot) float64 { return s.PV.ACCurrent }},
		{Name: "frequency", Label: "Frequency", Table: input, Register: 9, Type: Uint16, Scale: 0.01, Unit: "Hz",
			get: func(s *Snapshot) float64 { return s.Grid.Frequency }},
		{Name: "temperature", Label: "Inverter temperature", Table: input, Register: 10, Type: Int16, Scale: 0.1, Unit: "°C",
			get: func(s *Snapshot) float64 { return s.PV.Temperature }},
		{Name: "irradiance", Label: "Irradiance", Table: input, Register: 11, Type: Uint16, Unit: "W/m²",
			get: func(s *Snapshot) float64 { return s.Irradiance }},
		{Name: "energy_total", Label: "Energy produced", Table: input, Register: 12, Type: Uint32, Scale: 0.1, Unit: "kWh",
			get: func(s *Snapshot) float64 { return s.PV.EnergyTotal }},
		{Name: "energy_today", Label: "Energy produced today", Table: input, Register: 14, Type: Float32, Unit: "kWh",
			get: func(s *Snapshot) float64 { return s.PV.EnergyToday }},
		{Name: "power_limit", Label: "Power limit, percent of rated power", Kind: control, Table: holding, Register: 0,
			Type: Uint16, Scale: 0.1, Unit: "%", Min: 0, Max: 100, ReadBack: true,
			get: func(s *Snapshot) float64 { return s.PV.Limit },
			set: func(p *Plant, v float64) { p.s.PV.Limit = v }},
		{Name: "run", Label: "Run", Kind: control, Table: coil, Register: 0, ReadBack: true,
			get: func(s *Snapshot) float64 { return number(s.PV.On) },
			set: func(p *Plant, v float64) { p.s.PV.On = v != 0 }},
		{Name: "producing", Label: "Producing power", Kind: signal, Table: discrete, Register: 0,
			get: func(s *Snapshot) float64 { return number(s.PV.Power > 0) }},
		{Name: "limited", Label: "Held back by the power limit", Kind: signal, Table: discrete, Register: 1,
			get: func(s *Snapshot) float64 { return number(s.PV.State == PVLimited) }},
	}
}

func pcsMap() []Entry {
	return []Entry{
		{Name: "active_power_setpoint", Label: "Active power setpoint, discharge positive", Kind: control, Table: holding, Register: 0,
			Type: Int16, Scale: 0.1, Unit: "kW", Min: -PCSRating, Max: PCSRating, ReadBack: true,
			get: func(s *Snapshot) float64 { return s.PCS.Setpoint },
			set: func(p *Plant, v float64) { p.s.PCS.Setpoint = v }},
		{Name: "reactive_power_setpoint", Label: "Reactive power setpoint", Kind: control, Table: holding, Register: 1,
			Type: Int16, Scale: 0.1, Unit: "kvar", Min: -50, Max: 50, ReadBack: true,
			get: func(s *Snapshot) float64 { return s.PCS.ReactiveSetpoint },
			set: func(p *Plant, v float64) { p.s.PCS.ReactiveSetpoint = v }},
		{Name: "ramp_rate", Label: "Active power ramp", Kind: adjustment, Table: holding, Register: 2,
			Type: Uint16, Scale: 0.1, Unit: "kW/s", Min: 1, Max: 100, ReadBack: true,
			get: func(s *Snapshot) float64 { return s.PCS.Ramp },
			set: func(p *Plant, v float64) { p.s.PCS.Ramp = v }},
		{Name: "active_power", Label: "Active power, discharge positive", Table: holding, Register: 100, Type: Int16, Scale: 0.1, Unit: "kW",
			get: func(s *Snapshot) float64 { return s.PCS.Power }},
		{Name: "reactive_power", Label: "Reactive power", Table: holding, Register: 101, Type: Int16, Scale: 0.1, Unit: "kvar",
			get: func(s *Snapshot) float64 { return s.PCS.Reactive }},
		{Name: "apparent_power", Label: "Apparent power", Table: holding, Register: 102, Type: Uint16, Scale: 0.1, Unit: "kVA",
			get: func(s *Snapshot) float64 { return s.PCS.Apparent }},
		{Name: "ac_voltage", Label: "AC voltage, mean of the phases", Table: holding, Register: 103, Type: Uint16, Scale: 0.1, Unit: "V",
			get: func(s *Snapshot) float64 { return s.PCS.ACVoltage }},
		{Name: "ac_current", Label: "AC current per phase", Table: holding, Register: 104, Type: Uint16, Scale: 0.1, Unit: "A",
			get: func(s *Snapshot) float64 { return s.PCS.ACCurrent }},
		{Name: "frequency", Label: "Frequency", Table: holding, Register: 105, Type: Uint16, Scale: 0.01, Unit: "Hz",
			get: func(s *Snapshot) float64 { return s.Grid.Frequency }},
		{Name: "dc_voltage", Label: "DC voltage", Table: holding, Register: 106, Type: Uint16, Scale: 0.1, Unit: "V",
			get: func(s *Snapshot) float64 { return s.PCS.DCVoltage }},
		{Name: "dc_current", Label: "DC current, discharge positive", Table: holding, Register: 107, Type: Int16, Scale: 0.1, Unit: "A",
			get: func(s *Snapshot) float64 { return s.PCS.DCCurrent }},
		{Name: "temperature", Label: "Converter temperature", Table: holding, Register: 108, Type: Int16, Scale: 0.1, Unit: "°C",
			get: func(s *Snapshot) float64 { return s.PCS.Temperature }},
		{Name: "state", Label: "Operating state", Kind: signal, Table: holding, Register: 109, Type: Uint16,
			Texts: map[int]string{PCSOff: "off", PCSStarting: "starting", PCSRunning: "running", PCSFault: "fault"},
			get:   func(s *Snapshot) float64 { return float64(s.PCS.State) }},
		{Name: "fault_flags", Label: "Fault flags: bit 0 battery trip, 1 derated", Kind: signal, Table: holding, Register: 110, Type: Uint16,
			get: func(s *Snapshot) float64 { return float64(s.PCS.Faults) }},
		{Name: "discharged_energy", Label: "Energy discharged", Table: holding, Register: 111, Type: Uint32, Scale: 0.001, Unit: "kWh",
			get: func(s *Snapshot) float64 { return s.PCS.Discharged }},
		{Name: "charged_energy", Label: "Energy charged", Table: holding, Register: 113, Type: Uint32, Scale: 0.001, Unit: "kWh",
			get: func(s *Snapshot) float64 { return s.PCS.Charged }},
		{Name: "start", Label: "Start", Kind: control, Table: coil, Register: 0, ReadBack: true,
			get: func(s *Snapshot) float64 { return number(s.PCS.Start) },
			set: func(p *Plant, v float64) { p.s.PCS.Start = v != 0 }},
		{Name: "fault_reset", Label: "Reset the fault; reads 0", Kind: control, Table: coil, Register: 1,
			get: func(*Snapshot) float64 { return 0 },
			may: func(p *Plant, v float64) bool { return v == 0 || p.mayResetFault() },
			set: func(p *Plant, v float64) {
				if v != 0 {
					p.resetFault()
				}
			}},
		{Name: "running", Label: "Running", Kind: signal, Table: discrete, Register: 0,
			get: func(s *Snapshot) float64 { return number(s.PCS.State == PCSRunning) }},
		{Name: "fault", Label: "Fault", Kind: signal, Table: discrete, Register: 1,
			get: func(s *Snapshot) float64 { return number(s.PCS.State == PCSFault) }},
		{Name: "derated", Label: "Held back by the battery's limits", Kind: signal, Table: discrete, Register: 2,
			get: func(s *Snapshot) float64 { return number(s.PCS.Faults&PCSDerated != 0) }},
	}
}

func bmsMap() []Entry {
	m := []Entry{
		{Name: "soc", Label: "State of charge", Table: input, Register: 0, Type: Uint16, Scale: 0.01, Unit: "%",
			get: func(s *Snapshot) float64 { return s.BMS.SoC }},
		{Name: "soh", Label: "State of health", Table: input, Register: 1, Type: Uint16, Scale: 0.1, Unit: "%",
			get: func(s *Snapshot) float64 { return s.BMS.SoH }},
		{Name: "voltage", Label: "Battery voltage", Table: input, Register: 2, Type: Uint16, Scale: 0.1, Unit: "V",
			get: func(s *Snapshot) float64 { return s.BMS.Voltage }},
		{Name: "current", Label: "Battery current, discharge positive", Table: input, Register: 3, Type: Int16, Scale: 0.1, Unit: "A",
			get: func(s *Snapshot) float64 { return s.BMS.Current }},
		{Name: "power", Label: "Battery power, discharge positive", Table: input, Register: 4, Type: Int32, Scale: 0.001, Unit: "kW",
			get: func(s *Snapshot) float64 { return s.BMS.Power }},
		{Name: "temperature_max", Label: "Highest temperature", Table: input, Register: 6, Type: Int16, Scale: 0.1, Unit: "°C",
			get: func(s *Snapshot) float64 { return s.BMS.TemperatureMax }},
		{Name: "temperature_avg", Label: "Mean temperature", Table: input, Register: 7, Type: Int16, Scale: 0.1, Unit: "°C",
			get: func(s *Snapshot) float64 { return s.BMS.TemperatureAvg }},
		{Name: "temperature_min", Label: "Lowest temperature", Table: input, Register: 8, Type: Int16, Scale: 0.1, Unit: "°C",
			get: func(s *Snapshot) float64 { return s.BMS.TemperatureMin }},
		{Name: "cell_voltage_max", Label: "Highest cell voltage", Table: input, Register: 9, Type: Uint16, Scale: 0.0001, Unit: "V",
			get: func(s *Snapshot) float64 { return s.BMS.CellMax }},
		{Name: "cell_voltage_avg", Label: "Mean cell voltage", Table: input, Register: 10, Type: Uint16, Scale: 0.0001, Unit: "V",
			get: func(s *Snapshot) float64 { return s.BMS.CellAvg }},
		{Name: "cell_voltage_min", Label: "Lowest cell voltage", Table: input, Register: 11, Type: Uint16, Scale: 0.0001, Unit: "V",
			get: func(s *Snapshot) float64 { return s.BMS.CellMin }},
		{Name: "state", Label: "Operating state", Kind: signal, Table: input, Register: 12, Type: Uint16,
			Texts: map[int]string{BatteryStandby: "standby", BatteryCharging: "charging", BatteryDischarging: "discharging", BatteryFault: "fault"},
			get:   func(s *Snapshot) float64 { return float64(s.BMS.State) }},
		{Name: "fault_flags", Label: "Fault flags: bit 0 warm, 1 over-temperature, 2 trip, 3 charge low, 4 charge high", Kind: signal,
			Table: input, Register: 13, Type: Uint16,
			get: func(s *Snapshot) float64 { return float64(s.BMS.Faults) }},
		{Name: "charge_limit", Label: "Power that may be charged", Table: input, Register: 14, Type: Uint16, Scale: 0.1, Unit: "kW",
			get: func(s *Snapshot) float64 { return s.BMS.ChargeLimit }},
		{Name: "discharge_limit", Label: "Power that may be discharged", Table: input, Register: 15, Type: Uint16, Scale: 0.1, Unit: "kW",
			get: func(s *Snapshot) float64 { return s.BMS.DischargeLimit }},
		{Name: "stored_energy", Label: "Stored energy", Table: input, Register: 16, Type: Float32, Unit: "kWh",
			get: func(s *Snapshot) float64 { return s.BMS.SoC / 100 * BatteryCapacity }},
		{Name: "discharged_energy", Label: "Energy discharged", Table: input, Register: 18, Type: Uint32, Scale: 0.001, Unit: "kWh",
			get: func(s *Snapshot) float64 { return s.BMS.Discharged }},
		{Name: "charged_energy", Label: "Energy charged", Table: input, Register: 20, Type: Uint32, Scale: 0.001, Unit: "kWh",
			get: func(s *Snapshot) float64 { return s.BMS.Charged }},
	}
	for i := range modules {
		m = append(m,
			Entry{Name: fmt.Sprintf("module_voltage_%d", i+1), Label: fmt.Sprintf("Voltage of module %d", i+1),
				Table: input, Register: 22 + uint16(i), Type: Uint16, Scale: 0.01, Unit: "V",
				get: func(s *Snapshot) float64 { return s.BMS.ModuleVoltage[i] }},
			Entry{Name: fmt.Sprintf("module_temperature_%d", i+1), Label: fmt.Sprintf("Temperature of module %d", i+1),
				Table: input, Register: 22 + modules + uint16(i), Type: Int16, Scale: 0.1, Unit: "°C",
				get: func(s *Snapshot) float64 { return s.BMS.ModuleTemperature[i] }})
	}
	return append(m, []Entry{
		{Name: "soc_min", Label: "Lower bound of the state of charge", Kind: adjustment, Table: holding, Register: 0,
			Type: Uint16, Scale: 0.1, Unit: "%", Min: 0, Max: 50, ReadBack: true,
			get: func(s *Snapshot) float64 { return s.BMS.SoCMin },
			set: func(p *Plant, v float64) { p.s.BMS.SoCMin = v }},
		{Name: "soc_max", Label: "Upper bound of the state of charge", Kind: adjustment, Table: holding, Register: 1,
			Type: Uint16, Scale: 0.1, Unit: "%", Min: 50, Max: 100, ReadBack: true,
			get: func(s *Snapshot) float64 { return s.BMS.SoCMax },
			set: func(p *Plant, v float64) { p.s.BMS.SoCMax = v }},
		{Name: "inject_over_temperature", Label: "Inject over-temperature, for demonstrations", Kind: control, Table: coil, Register: 0, ReadBack: true,
			get: func(s *Snapshot) float64 { return number(s.BMS.OverTemperature) },
			set: func(p *Plant, v float64) { p.s.BMS.OverTemperature = v != 0 }},
		{Name: "contactor_closed", Label: "Contactor closed", Kind: signal, Table: discrete, Register: 0,
			get: func(s *Snapshot) float64 { return number(s.BMS.Faults&BMSTrip == 0) }},
		{Name: "over_temperature", Label: "Over-temperature", Kind: signal, Table: discrete, Register: 1,
			get: func(s *Snapshot) float64 { return number(s.BMS.Faults&BMSOverTemperature != 0) }},
		{Name: "tripped", Label: "Tripped", Kind: signal, Table: discrete, Register: 2,
			get: func(s *Snapshot) float64 { return number(s.BMS.Faults&BMSTrip != 0) }},
	}...)
}
