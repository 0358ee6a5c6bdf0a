"""An ingestion by Spark Structured Streaming: file source, checkpoint, bronze and silver.

The stream's source are the records of whole batches, `batch_meta.json`: a file source reads each
path once, so that a file of events that was read while half of it was there would never be read
again. Each micro-batch writes its batches by name and over what stands there: when it is run again
after a kill, its outcome is the same.
"""

import json
import os
import shutil
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

FIELDS = ("event_id", "driver_id", "company_id", "truck_id", "event_type", "timestamp")
TYPES = ("start driving", "stopped driving", "delivered")
LATE_BATCHES = 1  # a record may come so many batches after its own
UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"

LANDING, OUTPUT = Path(os.environ["FLEETSIM_LANDING"]), Path(os.environ["FLEETSIM_OUTPUT"])


def session() -> SparkSession:
    """Return a session on this machine, small and without a page."""
    return (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.local.dir", str(OUTPUT / "scratch"))
        .config("spark.sql.warehouse.dir", str(OUTPUT / "scratch"))
        .getOrCreate()
    )


def bronze(spark: SparkSession, folder: Path, batch_id: str) -> DataFrame:
    """Write the lines of a batch as they are, numbered; return them."""
    path = str(OUTPUT / "bronze" / f"batch_id={batch_id}")
    lines = spark.read.text(str(folder / "events.jsonl"))
    numbered = lines.select(F.monotonically_increasing_id().alias("number"), F.col("value"))
    numbered.write.mode("overwrite").parquet(path)
    return spark.read.parquet(path)


def judged(lines: DataFrame, companies: list[str], meta: dict) -> DataFrame:
    """Return each line with its fields and the first rule that it breaks."""
    start, end = (datetime.fromisoformat(meta[key]) for key in ("interval_start", "interval_end"))
    earliest = start - LATE_BATCHES * (end - start)
    # No JSON, a key twice, or anything behind the object: no variant.
    parsed = lines.withColumn("parsed", F.try_parse_json("value"))
    texts = [
        F.coalesce(
            F.schema_of_variant(F.variant_get("parsed", f"$.{field}", "variant")) == "STRING",
            F.lit(False),
        )
        for field in FIELDS
    ]
    values = [F.try_variant_get("parsed", f"$.{field}", "string").alias(field) for field in FIELDS]
    whole = F.lit(True)
    for text in texts:
        whole = whole & text
    rows = parsed.select("number", "value", "parsed", whole.alias("whole"), *values)
    time = F.when(F.col("timestamp").rlike(TIME), F.try_to_timestamp("timestamp"))
    rows = rows.withColumn("moment", time)
    broken = [
        (~F.is_valid_utf8("value"), "not UTF-8"),
        # Of two objects on one line the parser takes the first without a word.
        (F.col("parsed").isNull() | F.col("value").rlike(r"\}\s*\{"), "no JSON object"),
        (~F.col("whole"), "a field is missing or no text"),
        (~F.col("event_id").rlike(UUID), "no event_id"),
        (
            ~F.col("company_id").isin(companies)
            | ~F.startswith("driver_id", F.concat(F.lit("DRV-"), "company_id", F.lit("-"))),
            "unknown company",
        ),
        (~F.col("truck_id").rlike("^TRK-[0-9]+$"), "no truck_id"),
        (~F.col("event_type").isin(*TYPES), "unknown event_type"),
        (F.col("moment").isNull(), "no timestamp"),
        ((F.col("moment") < earliest) | (F.col("moment") >= end), "outside of the interval"),
    ]
    reason = F.lit(None).cast("string")
    for rule, words in reversed(broken):
        reason = F.when(rule, words).otherwise(reason)
    return rows.withColumn("reason", reason)


def silver(rows: DataFrame, batch_id: str) -> None:
    """Write the good records of a batch, and its refused lines."""
    same = Window.partitionBy("event_id", F.isnull("reason")).orderBy("number")
    rows = rows.withColumn("place", F.row_number().over(same))
    rows = rows.withColumn("first", F.first("value").over(same))
    good = F.isnull("reason") & (F.col("place") == 1)
    other = F.isnull("reason") & (F.col("place") > 1) & (F.col("value") != F.col("first"))
    accepted = rows.where(good).select(*FIELDS[:-1], F.col("moment").alias("timestamp"))
    refused = rows.where(~F.isnull("reason") | other).select(
        F.make_valid_utf8("value").alias("raw"),
        F.coalesce("reason", F.lit("another record has this event_id")).alias("reason"),
    )
    accepted.write.mode("overwrite").parquet(str(OUTPUT / "accepted" / batch_id))
    refused.write.mode("overwrite").json(str(OUTPUT / "rejected" / batch_id))


def ingest(records: DataFrame, _: int) -> None:
    """Ingest the batches whose records a micro-batch brought."""
    spark = records.sparkSession
    companies = [
        row.company_id for row in spark.read.json(str(LANDING / "companies.jsonl")).collect()
    ]
    for row in records.distinct().collect():
        record = Path(unquote(urlsplit(row.file_path).path))
        meta = json.loads(record.read_text())
        lines = bronze(spark, record.parent, meta["batch_id"])
        silver(judged(lines, companies, meta), meta["batch_id"])


def main() -> None:
    """Ingest what is new, and end."""
    spark = session()
    stream = (
        spark.readStream.format("text")
        .option("wholetext", "true")
        .load(str(LANDING / "events" / "*" / "batch_meta.json"))
        .select("_metadata.file_path")
    )
    stream.writeStream.foreachBatch(ingest).option(
        "checkpointLocation", str(OUTPUT / "checkpoint")
    ).trigger(availableNow=True).start().awaitTermination()
    spark.stop()
    shutil.rmtree(OUTPUT / "scratch", ignore_errors=True)


if __name__ == "__main__":
    main()
