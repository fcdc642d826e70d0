"""The threads behind large kernel calls: one team for the process. A call that comes while the team works does without.

OpenMP would be shorter, but its regions end only when every thread has come, even one that finds nothing left to do, and
a thread comes when the system lets it: on two busy cores a region of 50 us took 16 ms. How OpenMP waits can be set only
for the whole process, and only before it is loaded. Here the caller does every share of the work that no other thread
has begun, so that it never waits for more than the shares that were begun. On two cores that six compilers kept busy,
conv2d of 64 images of 6 x 15 x 15 was done 0.01 times as often with two of OpenMP's threads as with one (42 and 4,600
times a second), and 0.85 times as often with two of these (5,400 and 6,400).

What comes out depends on how the work is cut into shares, never on who does them.
"""

cdef extern from *:
    """
    #if defined(__unix__) || defined(__APPLE__)
    #define HAS_TEAM 1
    #include <pthread.h>
    #include <sched.h>
    #include <signal.h>
    #include <stdint.h>
    #include <string.h>

    typedef void (*team_worker)(void* job, Py_ssize_t share, Py_ssize_t n_shares);

    /* Who waits looks about every 50 ns at first, and then sleeps; to be woken takes 5 to 55 us. A member that did
       something waits a millisecond for the next call, one that came too late only as long as waking takes. */
    enum { LARGEST_TEAM = 256, SHORT_SPIN = 1000, LONG_SPIN = 20000 };
    #define CLOSED UINT32_MAX  /* as the first share to begin: none, whatever the job */

    /* The job that is being worked on. `next` is the number of the job in its upper half and its first share that
       nobody has begun in its lower half: to begin a share is to raise it by one, which fails if it has changed since
       it was read. While a job is being exchanged for the next, there is none to begin. */
    static struct {
        team_worker worker;
        void* job;
        int64_t n_shares;
        uint64_t next;
        int64_t n_finished;
        int n_asleep;        /* members that wait for `begun` */
        int caller_asleep;   /* the caller waits for `ended` */
        int n_members;
        int is_working;
        int kept_off;        /* the processor that members leave alone, plus one */
        pthread_t members[LARGEST_TEAM];
    } team;
    static pthread_mutex_t team_lock = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t begun = PTHREAD_COND_INITIALIZER, ended = PTHREAD_COND_INITIALIZER;

    #define GET(field) __atomic_load_n(&team.field, __ATOMIC_SEQ_CST)
    #define SET(field, value) __atomic_store_n(&team.field, value, __ATOMIC_SEQ_CST)
    #define NUMBER() ((uint32_t)(GET(next) >> 32))
    #define ADD(field, value) __atomic_add_fetch(&team.field, value, __ATOMIC_SEQ_CST)

    static inline void pause_a_little(void) {
    #if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
    #elif defined(__aarch64__)
        __asm__ volatile("yield");
    #endif
    }

    /* Does shares of the job at hand until all have been begun. Returns the job's number, and how many it did. */
    static uint32_t work(int* n_done) {
        *n_done = 0;
        for (;;) {
            uint64_t seen = GET(next);
            team_worker worker = GET(worker);
            void* job = GET(job);
            int64_t n_shares = GET(n_shares), share = (int64_t)(uint32_t)seen;
            if (share >= n_shares) return (uint32_t)(seen >> 32);
            if (!__atomic_compare_exchange_n(&team.next, &seen, seen + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
                continue;
            worker(job, (Py_ssize_t)share, (Py_ssize_t)n_shares);
            *n_done += 1;
            if (ADD(n_finished, 1) == n_shares && GET(caller_asleep)) {
                pthread_mutex_lock(&team_lock);
                pthread_cond_signal(&ended);
                pthread_mutex_unlock(&team_lock);
            }
        }
    }

    static void* member(void* unused) {
        (void)unused;
        for (;;) {
            int n_done, spins = 0;
            uint32_t number = work(&n_done);
            while (NUMBER() == number && spins++ < (n_done ? LONG_SPIN : SHORT_SPIN)) pause_a_little();
            if (NUMBER() != number) continue;
            pthread_mutex_lock(&team_lock);
            ADD(n_asleep, 1);
            while (NUMBER() == number) pthread_cond_wait(&begun, &team_lock);
            ADD(n_asleep, -1);
            pthread_mutex_unlock(&team_lock);
        }
        return NULL;
    }

    /* Lets the team have n members beside the caller, or as many as the system grants. */
    static void grow(int n) {
        pthread_attr_t attributes;
        sigset_t all, before;
        if (n > LARGEST_TEAM) n = LARGEST_TEAM;
        if (team.n_members >= n || pthread_attr_init(&attributes)) return;
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        sigfillset(&all);  /* signals are for the interpreter's threads */
        pthread_sigmask(SIG_SETMASK, &all, &before);
        while (team.n_members < n && pthread_create(&team.members[team.n_members], &attributes, member, NULL) == 0) {
            team.n_members++;
            team.kept_off = 0;
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
    }

    /* The members leave the caller's processor to the caller. A busy system wakes a thread where it was woken from, and
       the caller and its member then took turns on one processor. */
    static void make_room(void) {
    #ifdef __linux__
        int processor = sched_getcpu();
        cpu_set_t others;
        if (processor == team.kept_off - 1 || sched_getaffinity(0, sizeof others, &others)) return;
        if (CPU_COUNT(&others) > 1) CPU_CLR(processor, &others);
        for (int i = 0; i < team.n_members; i++) pthread_setaffinity_np(team.members[i], sizeof others, &others);
        team.kept_off = processor + 1;
    #endif
    }

    static void run_shares(team_worker worker, void* job, Py_ssize_t n_shares) {
        int n_done, spins = 0;
        if (n_shares == 1 || __atomic_exchange_n(&team.is_working, 1, __ATOMIC_SEQ_CST)) {
            for (Py_ssize_t share = 0; share < n_shares; share++) worker(job, share, n_shares);
            return;
        }
        grow((int)n_shares - 1);
        __atomic_or_fetch(&team.next, CLOSED, __ATOMIC_SEQ_CST);
        SET(worker, worker);
        SET(job, job);
        SET(n_shares, (int64_t)n_shares);
        SET(n_finished, 0);
        SET(next, ((GET(next) >> 32) + 1) << 32);
        if (GET(n_asleep)) {
            make_room();
            pthread_mutex_lock(&team_lock);
            pthread_cond_broadcast(&begun);
            pthread_mutex_unlock(&team_lock);
        }
        work(&n_done);
        while (GET(n_finished) < n_shares && spins++ < SHORT_SPIN) pause_a_little();
        if (GET(n_finished) < n_shares) {
            pthread_mutex_lock(&team_lock);
            SET(caller_asleep, 1);
            while (GET(n_finished) < n_shares) pthread_cond_wait(&ended, &team_lock);
            SET(caller_asleep, 0);
            pthread_mutex_unlock(&team_lock);
        }
        __atomic_store_n(&team.is_working, 0, __ATOMIC_SEQ_CST);
    }

    /* A forked child has none of the threads, and the locks as they were. */
    static void forget_team(void) {
        pthread_mutex_t unlocked = PTHREAD_MUTEX_INITIALIZER;
        pthread_cond_t no_waiters = PTHREAD_COND_INITIALIZER;
        memset(&team, 0, sizeof team);
        team_lock = unlocked;
        begun = ended = no_waiters;
    }
    static void prepare_for_forks(void) { pthread_atfork(NULL, NULL, forget_team); }
    #else
    #define HAS_TEAM 0
    typedef void (*team_worker)(void* job, Py_ssize_t share, Py_ssize_t n_shares);
    static void run_shares(team_worker worker, void* job, Py_ssize_t n_shares) {
        for (Py_ssize_t share = 0; share < n_shares; share++) worker(job, share, n_shares);
    }
    static void prepare_for_forks(void) { }
    #endif
    """
    enum: HAS_TEAM
    void run_shares(worker_t worker, void* job, Py_ssize_t n_shares) noexcept nogil
    void prepare_for_forks()

prepare_for_forks()
HAS_THREADS = bool(HAS_TEAM)


cdef void run(worker_t worker, void* job, Py_ssize_t n_shares) noexcept nogil:
    """Calls worker(job, share, n_shares) for each share, on as many threads as there are shares at most."""
    run_shares(worker, job, n_shares)
