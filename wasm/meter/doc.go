// Package meter rewrites WebAssembly modules so that they cannot run for long
// without calling the host: in front of everything that can repeat it inserts a
// check of a budget. It must not run modules, nor know what the host does when
// a budget is used up.
//
// # The files
//
// decode.go reads a module, opcode.go its functions' code and what instructions
// weigh, and reader.go what both are made of. graph.go sorts the calls,
// analyse.go finds where checks are needed, back.go which loops have theirs where they are
// led back to, count.go which need none, and stack.go what calls are charged of the stack. insert.go writes the functions with
// their checks, helpers.go the functions that are added, encode.go the module, and
// names.go its names.
//
// # The output
//
// The module gets two mutable globals, the budget and the stack that is left, a
// few functions at its end, the helpers, and one imported function, refill, of
// type () -> (i64). A check of weight w is
//
//	budget -= w; if budget >= 0 {} else { helper() } // budget = refill()
//
// in this order, since the engine has what follows begin with the registers as the
// first of both paths leaves them, and the other path load them again.
//
// The host may end the guest there, or let others run before it returns a new
// budget. A budget begins at 0, so the first check of all asks the host. A check
// is eight instructions, of which the last, a call, is out of the way; it costs
// about 1 ns, and some 20 bytes of code. The helper is there for their sake: to
// call what is imported takes many more.
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
// on the way, or the most that it can be where the call is by a table, which
// is a call of the host's if the module refers to imported functions. A check at
// p weighs rest(p), plus its own cost. Since branches to
// a loop's header end at the check there, or the loop is a counted one and weighs as much as
// all its rounds, what is left of a function is free of cycles, and one pass from its end
// to its beginning computes rest for all places: analyse.go does no more than that. So all that runs is charged before
// it runs: by the last check of its activation before it or, if that has none,
// by the one that covers the call. Branches not taken are charged as well.
//
// A check where a loop is led back to weighs only those paths from the loop's head that
// lead back to it, or to a check within the loop: for the next round. Those that
// leave the loop are left once each time that it is entered, so what leads to
// the loop weighs as much as they, or as the first round, whichever is more. After j
// branches back that and j rounds have been paid for, and no more has run. For this
// rest(p) is kept apart for each loop around p: that of the paths that first lead back
// to its head, and that of all others. A path that ends at a check may lead back to the
// heads of all loops around that check, so in front of a check all these are 0.
//
// # Why nothing runs for long between two checks
//
//   - Loops: each loop that branches lead back to has a check where it begins or, if one
//     alone does and the loop holds no call, at that branch: see back.go. Either way
//     each round but the first goes by a check.
//   - Counted loops: one that counts a local from one constant to another, holds neither calls, loops nor
//     checks, and weighs no more than 8 times Bound in all its rounds, has none: see
//     count.go. What leads to it weighs all of them.
//   - Direct calls: the graph of direct calls is searched depth first. A function
//     that is called while its own search is under way closes a cycle, and has a
//     check at its entry. Every cycle of the graph has such a function.
//   - Indirect calls: each has a check right before it. A cycle of calls that is
//     no cycle of direct ones holds an indirect one.
//   - Tail calls: they are calls behind which nothing is left to do, and edges of
//     the graph as others are: a function that ends in a call of itself closes a
//     cycle, and one by a table has a check before it.
//   - Trees of calls (exponential without any cycle): a function whose
//     rest(entry) is above a quarter of Bound has a check at its entry, and then
//     counts 0 for its callers. All others were searched before their callers
//     were.
//   - Straight code: where rest exceeds a limit of 4 times Bound there is a
//     check, wherever that is.
//   - Returns: after a call of a function that holds a check, or may call one
//     that does, there is a check if the rest is above an eighth of Bound for
//     each 64 bytes that the function's frame takes of the stack. So
//     to unwind a stack runs at most that between two checks for each frame of
//     it, and all of that was charged before the call. Yet it may wait for memory each
//     time, half a million frames deep. So where the bytes of a charged call are
//     given back there is another check, of all that may run behind the calls that were
//     charged with it, but only while more than 128 KiB of the stack are in
//     use: within these, what unwinds unchecked takes some 30 ms if every access misses
//     all caches.
//   - Bulk instructions: memory.fill and memory.copy of more than 64 KiB run in
//     helper functions, which are appended to the module, piece by piece with a
//     check each; the others are charged by their operand before they run, and
//     are bounded: tables by MaxTableEntries (a greater growth fails, as the
//     standard allows), memory.init by the module's size. memory.grow is charged
//     a fixed weight: the engine's memories do not move.
//   - Memories: there is one, whose size the engine's allocator bounds.
//   - Calls of the host are charged a fixed weight. How long the host works is
//     the host's to bound.
//
// Where paths meet, in front of a loop and behind a block, the engine moves what
// differs between them: what the block's type passes, and the locals that are set
// within it, be it on a path that never runs. Thousands may be, and by far
// outweigh the instructions. So what leads there weighs as much as so many moves,
// and so do calls and returns of many values. What registers hold weighs little.
//
// More checks than these stand where paths of different weights part or meet,
// so that the cheap path is not charged for the dear one: a loop of ten
// instructions in a function of ten thousand must not pay for those.
//
// # Why the stack does not grow without bound
//
// The engine's stack lies outside of the guest's memory and has a bound that is
// far too high for many guests. A call that is charged for n bytes is
//
//	left -= n; if left < 0 { trap }; call; left += n
//
// in one branch with the check of the budget, where there is one. The trap is in
// a function of the name StackOverflow, so that it shows in the trace.
//
//   - A function is shallow if no call leads from it into a cycle or to an
//     indirect call, and the greatest tree of frames below it takes no more than
//     64 KiB. A call of a shallow function is free: such frames are only at the
//     stack's end, once.
//   - Other calls are charged if they are indirect or close a cycle of direct
//     calls, and all of a function's if more than 8 KiB were carried to it, its own
//     frame included. For precision, so are those that lead into a small cycle, or
//     to a function that calls indirectly. What a call is charged is the caller's
//     frame, and the frames that were carried to it, at most, over all uncharged
//     ways that lead to it.
//   - Hubs: run-time libraries are cycles of hundreds of functions, which a few
//     close that all call, those that panic for one. Such a function is charged
//     for its own calls instead, as if 8 KiB had been carried to it: a cycle that
//     leads into it leads out of it.
//   - A function with two charged calls or more, of one result at most, is charged
//     where it begins instead, which takes less code than at each of them:
//     for the same bytes, in use until its end. Its body becomes a block, behind which
//     they are given back, and returns become branches to there. What it calls has
//     nothing carried to it.
//   - So those on the stack form runs of calls that were not charged, and the
//     call that ends a run paid for all of it. The last run has carried 8 KiB
//     and a frame at most. All but that and a shallow tree is charged.
//   - A tail call within registers takes no stack, for the callee's frame takes
//     the place of the caller's. The others are calls to the engine, so here as
//     well: call, then return. In modules that have tail calls nothing is
//     carried, but every call of what is not shallow is charged.
//   - A trap leaves the count as it is, too low. The instance has ended.
//
// What a frame takes is an estimate of the engine's register allocator: compilers'
// functions take less than half of it in the median, and up to 2.7 times as much
// at the worst of some thousands. So MaxStack is a bound for what compilers
// make. Code that is written to defeat the estimate (thousands of values in use at
// once) gets further, up to the engine's own bound of 50 MB, which stays; the
// price is that it ends in the engine's stack overflow instead of this one.
//
// # What is not supported
//
// Exceptions are refused by name. The engine's compiler has a handler see the
// locals as they were where its block began, which is wrong; and it copies the
// whole stack for each handler, outside of the guest's limit, so that a recursion
// with one in each frame takes memory with the square of its depth. Garbage-
// collected values, typed references, threads, several memories, and tables of
// other modules are refused as well.
//
// # What the guest cannot forge
//
// The budget and the stack that is left are no memory cells but globals that are
// neither exported nor imported; every index of the guest's is checked against the number of its own
// globals, functions and types, so that none names what was added. No local or
// value of the guest's is touched. The pass reads code as the engine does: what
// has two encodings in the standard but one in the engine is accepted in that
// one only, so that a body has one reading. What the pass does not know it
// refuses with ErrUnsupported, and what is no module with ErrMalformed; types
// are for the engine to check, after this. No list is longer than the bytes that
// hold it, no function has more than 50,000 locals, nor many in many loops, so that an engine which
// allocates what a module claims to hold is not led to allocate gigabytes.
package meter
