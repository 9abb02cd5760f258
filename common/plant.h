// plant: bugs that are planted on purpose, to prove that the simulation (tests/sim) finds such bugs.
// PLANT(NAME) is false, and costs nothing, in every build but that of tests/sim, where a switch of the
// command line turns one of them on.
#ifndef HEADRACE_COMMON_PLANT_H
#define HEADRACE_COMMON_PLANT_H

//       X(NAME, "name on the command line")
#define PLANTS(X)                              \
    X(SKIP_EPOCH, "skip-epoch")                \
    X(DROP_LATE_ANSWER, "drop-late-answer")    \
    X(ACK_BEFORE_WRITE, "ack-before-write")    \
    X(FORGET_REQUEUE, "forget-requeue")        \
    X(MATCH_BY_POSITION, "match-by-position")  \
    X(MISS_ROLLBACK, "miss-rollback")          \
    X(MIX_OVERRIDES, "mix-overrides")          \
    X(FORGET_LOSS, "forget-loss")              \
    X(LOSE_LETTER, "lose-letter")              \
    X(PUSH_AGAIN, "push-again")                \
    X(FORGET_NUMBER, "forget-number")          \
    X(REFUND_TWICE, "refund-twice")            \
    X(FORGET_LEVEL, "forget-level")

#ifdef HEADRACE_PLANT
enum plant {
    PLANT_NONE,
#define X(NAME, text) PLANT_##NAME,
    PLANTS(X)
#undef X
};
extern enum plant planted; // at most one at a time
#define PLANT(NAME) (planted == PLANT_##NAME)
#else
#define PLANT(NAME) 0
#endif

#endif
