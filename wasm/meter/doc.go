// Package meter rewrites WebAssembly modules so that they cannot run for long
// without calling the host: in front of everything that can repeat it inserts a
// check of a budget. It must not run modules, nor know what the host does when
// a budget is used up.
//
// # The output
//
// The module gets one mutable global, the budget, and one imported function,
// refill, of type () -> (i64). A check of weight w is
//
//	budget -= w; if budget < 0 { budget = refill() }
//
// The host may end the guest there, or let others run before it returns a new
// budget. A budget begins at 0, so the
// first check of all asks the host.
//
// The import takes the index of the first defined function, and that function
// moves behind the last one, so that a single index changes its meaning: in
// calls, ref.func, elements, exports, start and names. Custom sections are
// dropped, for they hold offsets into the code, except for the names.
//
// # What a weight is
//
// Every instruction has a weight of about the nanoseconds times four that it
// takes at worst, memory and caches aside; none is 0 that yields machine code.
// Let rest(p) be the greatest weight of any path that begins at the place p of a
// function and ends at the next check of the same activation, or where the
// activation ends. It includes rest(entry) of those functions that are called
// on the way. A check at p weighs rest(p), plus its own cost. Since branches to
// a loop's header end at the check there, what is left of a function is free of
// cycles, and one pass from its end to its beginning computes rest for all
// places: analyse.go does no more than that. So all that runs is charged before
// it runs: by the last check of its activation before it or, if that has none,
// by the one that covers the call. Branches not taken are charged as well.
//
// # Why nothing runs for long between two checks
//
//   - Loops: the header of each loop that a branch leads to has a check.
//   - Direct calls: the graph of direct calls is searched depth first. A function
//     that is called while its own search is under way closes a cycle, and has a
//     check at its entry. Every cycle of the graph has such a function.
//   - Indirect calls: each has a check right before it. A cycle of calls that is
//     no cycle of direct ones holds an indirect one.
//   - Trees of calls (exponential without any cycle): a function whose
//     rest(entry) is above Bound has a check at its entry, and then counts 0 for
//     its callers. All others were searched before their callers were.
//   - Straight code: where rest exceeds a limit of 16 times Bound there is a
//     check, wherever that is.
//   - Returns: after a call of a function that holds a check, or may call one
//     that does, there is a check if the rest is above half of Bound. So to
//     unwind a stack runs at most Bound between two checks for each frame of it,
//     whatever its depth; the engine bounds the depth by the stack's bytes.
//   - Bulk instructions: memory.fill and memory.copy of more than 64 KiB run in
//     helper functions, which are appended to the module, piece by piece with a
//     check each; the others are charged by their operand before they run, and
//     are bounded: tables by MaxTableEntries (a greater growth fails, as the
//     standard allows), memory.init by the module's size. memory.grow is charged
//     a fixed weight: the engine's memories do not move.
//   - Calls of the host are charged a fixed weight. How long the host works is
//     the host's to bound.
//
// More checks than these stand where paths of different weights part or meet,
// so that the cheap path is not charged for the dear one: a loop of ten
// instructions in a function of ten thousand must not pay for those.
//
// # What the guest cannot forge
//
// The budget is no memory cell but a global that is neither exported nor
// imported; every index of the guest's is checked against the number of its own
// globals, functions and types, so that none names what was added. No local or
// value of the guest's is touched. The pass reads code as the engine does: what
// has two encodings in the standard but one in the engine is accepted in that
// one only, so that a body has one reading. What the pass does not know it
// refuses with ErrUnsupported, and what is no module with ErrMalformed; types
// are for the engine to check, after this. No list is longer than the bytes that
// hold it, no function has more than 50,000 locals, nor many in many loops, so that an engine which
// allocates what a module claims to hold is not led to allocate gigabytes.
package meter
