/* The text format, to the byte. */
#include "tests/unit/unit.h"

#include "base/buf.h"
#include "base/histogram.h"
#include "proto/prometheus.h"

#include <string.h>

static void families_and_samples(void **state)
{
    cog_buf out = { 0 };

    cog_prom_family(&out, "a_total", "counter", "Things.");
    cog_prom_count(&out, "a_total", NULL, 18446744073709551615ull);
    cog_prom_count(&out, "a_total", "x=\"1\"", 0);
    cog_prom_value(&out, "b", "", 0.5);
    cog_prom_value(&out, "b", NULL, __builtin_inf());
    cog_prom_value(&out, "b", NULL, -__builtin_inf());
    cog_prom_value(&out, "b", NULL, __builtin_nan(""));
    assert_string_equal(out.data, "# HELP a_total Things.\n"
                                  "# TYPE a_total counter\n"
                                  "a_total 18446744073709551615\n"
                                  "a_total{x=\"1\"} 0\n"
                                  "b 0.5\n"
                                  "b +Inf\n"
                                  "b -Inf\n"
                                  "b NaN\n");
    cog_buf_fini(&out);
}

static void labels_are_escaped(void **state)
{
    cog_buf labels = { 0 };

    cog_prom_label(&labels, "name", "a\"b\\c\nd \xff e,}ü");
    cog_prom_label(&labels, "engine", "0");
    cog_prom_label(&labels, "empty", "");
    assert_string_equal(labels.data, "name=\"a\\\"b\\\\c\\nd \xef\xbf\xbd e,}ü\",engine=\"0\","
                                     "empty=\"\"");
    cog_buf_fini(&labels);
}

static void histograms_are_cumulative(void **state)
{
    static const double bounds[] = { 0.001, 0.25, 1, 2560, 1000000 };
    cog_histogram h = { .bounds = bounds, .n = 5 };
    cog_buf out = { 0 };

    cog_histogram_add(&h, 0.001); /* a bound belongs to its bucket */
    cog_histogram_add(&h, 0.002);
    cog_histogram_add(&h, 1);
    cog_histogram_add(&h, 1e9);
    cog_prom_histogram(&out, "t_seconds", "s=\"x\"", &h);
    assert_string_equal(out.data, "t_seconds_bucket{s=\"x\",le=\"0.001\"} 1\n"
                                  "t_seconds_bucket{s=\"x\",le=\"0.25\"} 2\n"
                                  "t_seconds_bucket{s=\"x\",le=\"1.0\"} 3\n"
                                  "t_seconds_bucket{s=\"x\",le=\"2560.0\"} 3\n"
                                  "t_seconds_bucket{s=\"x\",le=\"1e+06\"} 3\n"
                                  "t_seconds_bucket{s=\"x\",le=\"+Inf\"} 4\n"
                                  "t_seconds_sum{s=\"x\"} 1000000001.003\n"
                                  "t_seconds_count{s=\"x\"} 4\n");
    cog_buf_clear(&out);
    h = (cog_histogram){ 0 };
    cog_prom_histogram(&out, "t", NULL, &h);
    assert_string_equal(out.data, "t_bucket{le=\"+Inf\"} 0\nt_sum 0\nt_count 0\n");
    cog_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_and_samples),
        cmocka_unit_test(labels_are_escaped),
        cmocka_unit_test(histograms_are_cumulative),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
