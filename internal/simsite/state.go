package simsite

import "time"

// Ratings of the site.
const (
	// PVRating is the peak power of the PV inverter in kW.
	PVRating = 60.0
	// PCSRating is the rated active power of the PCS in kW, in both directions.
	PCSRating = 100.0
	// BatteryCapacity is the energy of the battery in kWh.
	BatteryCapacity = 200.0
)

// States of the PV inverter, in its register "state".
const (
	PVOff     = 0 // switched off by its run coil
	PVStandby = 1 // no sun
	PVRunning = 2
	PVLimited = 3 // runs below what the sun would allow, for its power limit
)

// States of the PCS, in its register "state".
const (
	PCSOff      = 0
	PCSStarting = 1
	PCSRunning  = 2
	PCSFault    = 3 // until fault_reset
)

// States of the battery, in its register "state".
const (
	BatteryStandby     = 0
	BatteryCharging    = 1
	BatteryDischarging = 2
	BatteryFault       = 3 // tripped, contactor open
)

// Bits of the PCS's register "fault_flags".
const (
	PCSFaultBattery = 1 << 0 // the BMS tripped; stays until fault_reset
	PCSDerated      = 1 << 1 // power is below the setpoint for the battery's limits
)

// Bits of the BMS's register "fault_flags".
const (
	BMSWarmWarning     = 1 << 0 // 50 °C or more
	BMSOverTemperature = 1 << 1 // 60 °C or more
	BMSTrip            = 1 << 2 // reached 65 °C and not yet below 55 °C
	BMSChargeLow       = 1 << 3 // state of charge within 0.5 % of its lower bound
	BMSChargeHigh      = 1 << 4 // state of charge within 0.5 % of its upper bound
)

// modules is the number of battery modules in series.
const modules = 8

// Snapshot is the physical state of the site at one instant. Power is in kW,
// reactive power in kvar, energy in kWh, voltage in V, current in A and
// temperature in °C. Registers carry these values rounded to their scale.
type Snapshot struct {
	// Elapsed is the simulated time since the start.
	Elapsed time.Duration
	// TimeOfDay is the simulated time since midnight, below 24 h.
	TimeOfDay time.Duration
	// Ambient is the air temperature.
	Ambient float64
	// Irradiance is the power of the sun in W/m².
	Irradiance float64
	// Load is the active power that the site consumes.
	Load float64

	Grid Grid
	PV   PV
	PCS  PCS
	BMS  BMS
}

// Grid is the state at the meter. Power is positive for import.
type Grid struct {
	Voltage       [3]float64
	Current       [3]float64
	PhasePower    [3]float64
	PhaseReactive [3]float64
	PhaseFactor   [3]float64 // power factor −1..1, with the sign of the power
	Power         float64
	Reactive      float64
	Apparent      float64 // kVA
	PowerFactor   float64
	Frequency     float64 // Hz
	Demand        float64 // power averaged over DemandPeriod
	Import        float64 // energy counter
	Export        float64 // energy counter
	DemandPeriod  float64 // minutes; set by a client
}

// PV is the state of the PV inverter.
type PV struct {
	State       int     // one of PVOff to PVLimited
	Power       float64 // never negative
	Available   float64 // power that the sun allows now
	DCVoltage   float64
	DCCurrent   float64
	ACVoltage   float64
	ACCurrent   float64
	Temperature float64
	EnergyTotal float64
	EnergyToday float64 // from zero at every midnight
	Limit       float64 // percent of PVRating, 0..100; set by a client
	On          bool    // set by a client
}

// PCS is the state of the battery converter. Power is positive for discharge.
type PCS struct {
	State            int // one of PCSOff to PCSFault
	Faults           int // bits PCSFaultBattery and PCSDerated
	Power            float64
	Reactive         float64 // positive for delivery into the site
	Apparent         float64 // kVA
	ACVoltage        float64
	ACCurrent        float64
	DCVoltage        float64
	DCCurrent        float64
	Temperature      float64
	Discharged       float64 // energy counter, AC side
	Charged          float64 // energy counter, AC side
	Setpoint         float64 // active power −100..100; set by a client
	ReactiveSetpoint float64 // −50..50; set by a client
	Ramp             float64 // kW/s, 1..100; set by a client
	Start            bool    // set by a client
}

// BMS is the state of the battery. Power and current are positive for
// discharge and mean the battery's terminals, the DC side of the PCS.
type BMS struct {
	State             int     // one of BatteryStandby to BatteryFault
	Faults            int     // bits BMSWarmWarning to BMSChargeHigh
	SoC               float64 // state of charge, 0..100 %
	SoH               float64 // state of health, 0..100 %
	Voltage           float64
	Current           float64
	Power             float64
	CellMax           float64 // V
	CellMin           float64 // V
	CellAvg           float64 // V
	TemperatureMax    float64
	TemperatureAvg    float64
	TemperatureMin    float64
	ModuleVoltage     [modules]float64
	ModuleTemperature [modules]float64
	ChargeLimit       float64 // AC power that may be charged, 0..100 kW
	DischargeLimit    float64 // AC power that may be discharged, 0..100 kW
	Discharged        float64 // energy counter, DC side
	Charged           float64 // energy counter, DC side
	SoCMin            float64 // percent; set by a client
	SoCMax            float64 // percent; set by a client
	OverTemperature   bool    // fault injection is on
}
